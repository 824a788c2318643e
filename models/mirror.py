"""What the mirror still has to write: everything the registry holds and MLflow does not, in order, each thing once.

The registry is the truth. What was written is remembered beside it, under the address of the MLflow it was written to.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from models.database import create_tables, metadata, now, reader_of, writing
from models.errors import CorruptVersion
from models.registry import ModelRecord, Registry, VersionRecord
from models.tracking import TrackedVersion, Tracking, mlflow_alias, number_alias

logger = logging.getLogger("vitrine.mirror")

mirrored_versions_table = sa.Table(
    "mirrored_versions",
    metadata,
    sa.Column("target", sa.String, primary_key=True),
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("mlflow_run", sa.String, nullable=False),
    sa.Column("mlflow_version", sa.Integer, nullable=False),
    sa.Column("mirrored_at", sa.String, nullable=False),
)
mirrored_aliases_table = sa.Table(
    "mirrored_aliases",
    metadata,
    sa.Column("target", sa.String, primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("alias", sa.String, primary_key=True),
    # Null while it is being set: a crash then leaves a trace of an alias that may have come to be.
    sa.Column("mlflow_version", sa.Integer),
)


class MirrorLog:
    """What was written to one MLflow, the target."""

    def __init__(self, engine: sa.Engine, target: str) -> None:
        self._engine, self._reader, self.target = engine, reader_of(engine), target
        create_tables(engine)

    def versions(self) -> dict[str, int]:
        """MLflow's number of each version that was written, by job."""
        columns = (mirrored_versions_table.c.job, mirrored_versions_table.c.mlflow_version)
        with self._reader.begin() as connection:
            found = sa.select(*columns).where(mirrored_versions_table.c.target == self.target)
            return {row.job: row.mlflow_version for row in connection.execute(found)}

    def remember_version(self, record: VersionRecord, tracked: TrackedVersion) -> None:
        with writing(self._engine) as connection:
            connection.execute(self._of_job(record.job))
            connection.execute(
                mirrored_versions_table.insert().values(
                    target=self.target,
                    job=record.job,
                    model=record.model,
                    version=record.version,
                    mlflow_run=tracked.run,
                    mlflow_version=tracked.version,
                    mirrored_at=now(),
                )
            )

    def forget_version(self, job: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(self._of_job(job))

    def aliases(self, model: str) -> dict[str, int | None]:
        """The aliases that were set, and to which of MLflow's numbers; None where that was never confirmed."""
        table = mirrored_aliases_table
        with self._reader.begin() as connection:
            found = sa.select(table).where(table.c.target == self.target, table.c.model == model)
            return {row.alias: row.mlflow_version for row in connection.execute(found)}

    def remember_alias(self, model: str, alias: str, version: int | None) -> None:
        with writing(self._engine) as connection:
            connection.execute(self._of_alias(model, alias))
            values = {"target": self.target, "model": model, "alias": alias, "mlflow_version": version}
            connection.execute(mirrored_aliases_table.insert().values(**values))

    def forget_alias(self, model: str, alias: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(self._of_alias(model, alias))

    def _of_job(self, job: str) -> sa.Delete:
        table = mirrored_versions_table
        return table.delete().where(table.c.target == self.target, table.c.job == job)

    def _of_alias(self, model: str, alias: str) -> sa.Delete:
        table = mirrored_aliases_table
        return table.delete().where(table.c.target == self.target, table.c.model == model, table.c.alias == alias)


@dataclass
class Mirror:
    """Writes to MLflow what the registry holds and the log does not.

    What one version or one model stands in the way of (a damaged file, a refusal) is kept in `problems` by place, and
    tried again by the next pass that verifies; the others go on.
    """

    registry: Registry
    log: MirrorLog
    tracking: Tracking
    problems: dict[str, str] = field(default_factory=dict)

    def catch_up(self, *, verify: bool) -> int:
        """One pass; returns how many versions and aliases it wrote.

        Args:
            verify: looks at what MLflow really holds instead of trusting the log, and so finds what someone has
                deleted or moved there.

        Raises:
            Exception: whatever MLflow raises when it does not answer. Nothing is lost: the next pass goes on.
        """
        if verify:
            self.problems.clear()
        models = self.registry.models()
        if verify:
            for name in models:
                self._forget_what_is_gone(models[name])
        written = 0
        held = self.log.versions()
        pending = [record for model in models.values() for record in model.versions if record.job not in held]
        for record in sorted(pending, key=lambda record: (record.created_at, record.model, record.version)):
            written += self._attempt(f"{record.model}/{record.version}", self._write_version, record)
        held = self.log.versions()
        for model in models.values():
            wanted = wanted_aliases(model, held)
            if wanted and (verify or wanted != self.log.aliases(model.name)):
                written += self._attempt(f"{model.name} aliases", self._write_aliases, model.name, wanted)
        return written

    def _attempt(self, place: str, work: Any, *arguments: Any) -> int:
        if place in self.problems:
            return 0
        try:
            return work(*arguments)
        except CorruptVersion as error:
            self.problems[place] = str(error)
        except Exception as error:
            # MLflow's errors do not tell what is away from what is refused. When it answers, it was refused.
            self.tracking.probe()
            self.problems[place] = f"{type(error).__name__}: {error}"
        return 0

    def _forget_what_is_gone(self, model: ModelRecord) -> None:
        logged = self.log.versions()
        held = self.tracking.versions(model.name)
        for record in model.versions:
            if record.job in logged and held.get(record.job) != logged[record.job]:
                self.log.forget_version(record.job)

    def _write_version(self, record: VersionRecord) -> int:
        tracked = self.tracking.write_version(record)
        self.log.remember_version(record, tracked)
        logger.info("version %d of %s is version %d in MLflow", record.version, record.model, tracked.version)
        return 1

    def _write_aliases(self, model: str, wanted: dict[str, int]) -> int:
        logged, held = self.log.aliases(model), self.tracking.aliases(model)
        written = 0
        for alias, version in wanted.items():
            if held.get(alias) != version:
                self.log.remember_alias(model, alias, None)
                self.tracking.set_alias(model, alias, version)
                written += 1
            if logged.get(alias) != version or held.get(alias) != version:
                self.log.remember_alias(model, alias, version)
        # Aliases that others have set in MLflow under names of their own are theirs.
        for alias in logged.keys() - wanted.keys():
            if alias in held:
                self.tracking.delete_alias(model, alias)
                written += 1
            self.log.forget_alias(model, alias)
        return written


def wanted_aliases(model: ModelRecord, mlflow_versions: dict[str, int]) -> dict[str, int]:
    """The aliases a model should have in MLflow, on MLflow's numbers: ours, and one for each of our numbers.

    An alias of a version that MLflow does not have (yet) is left out: it would point at another.
    """
    numbers = {
        record.version: mlflow_versions[record.job] for record in model.versions if record.job in mlflow_versions
    }
    ours = {mlflow_alias(alias): numbers[version] for alias, version in model.aliases.items() if version in numbers}
    return ours | {number_alias(version): number for version, number in numbers.items()}
