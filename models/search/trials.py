"""The trials of searches, as the database holds them: what each drew, how it fared, how it ended.

Optuna proposes and judges (`study.py`); it stores nothing. A trial that is killed goes on with what it had drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from models.database import create_tables, metadata, now, reader_of, writing

State = Literal["running", "complete", "pruned", "failed"]

trials_table = sa.Table(
    "search_trials",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("errors", sa.JSON, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("seconds", sa.Float),
    sa.Column("reason", sa.String),
    sa.Column("began_at", sa.String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One specification that a search has tried.

    `parameters` are by dotted key of the specification. `errors` is the validation error after each epoch, without
    penalties. `value` is the search's metric, None before the trial has ended and where it was pruned or has failed.
    """

    number: int
    state: State
    parameters: Mapping[str, Any]
    errors: Sequence[float]
    value: float | None
    seconds: float | None
    reason: str | None
    began_at: str

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.number,
            "state": self.state,
            "parameters": dict(self.parameters),
            "epochs": len(self.errors),
            "value": self.value,
            "seconds": self.seconds,
            "reason": self.reason,
        }


class Trials:
    """The trials of one search."""

    def __init__(self, engine: sa.Engine, job: str) -> None:
        self._engine, self._reader, self._job = engine, reader_of(engine), job
        create_tables(engine)

    def all(self) -> list[Trial]:
        """Every trial that has begun, by number."""
        with self._reader.begin() as connection:
            return _read(connection, self._job)

    def begin(self, number: int, draw: Callable[[Sequence[Trial]], Mapping[str, Any]]) -> Trial:
        """Begins a trial, or takes up one that was killed.

        Args:
            draw: from the trials so far to the parameters of this one. It runs while no other trial can begin, so that
                trials which begin at the same time know of each other.
        """
        with writing(self._engine) as connection:
            held = _read(connection, self._job)
            for trial in held:
                if trial.number == number:
                    return trial
            values = {"state": "running", "parameters": dict(draw(held)), "errors": [], "began_at": now()}
            connection.execute(trials_table.insert().values(job=self._job, trial=number, **values))
            return _read(connection, self._job, number)[0]

    def report(self, number: int, errors: Sequence[float]) -> None:
        """Writes down the validation errors of a trial's epochs so far."""
        self._update(number, errors=list(errors))

    def end(
        self,
        number: int,
        state: State,
        *,
        value: float | None = None,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        self._update(number, state=state, value=value, seconds=seconds, reason=reason)

    def _update(self, number: int, **values: Any) -> None:
        chosen = (trials_table.c.job == self._job, trials_table.c.trial == number)
        with writing(self._engine) as connection:
            connection.execute(trials_table.update().where(*chosen).values(**values))


def _read(connection: sa.Connection, job: str, number: int | None = None) -> list[Trial]:
    query = sa.select(trials_table).where(trials_table.c.job == job).order_by(trials_table.c.trial)
    if number is not None:
        query = query.where(trials_table.c.trial == number)
    return [
        Trial(row.trial, row.state, row.parameters, row.errors, row.value, row.seconds, row.reason, row.began_at)
        for row in connection.execute(query)
    ]
