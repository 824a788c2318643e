"""The registry: which versions exist, where aliases point, and every move they made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from models.attempts import check_attempt
from models.database import create_tables, metadata, now, reader_of, writing
from models.errors import ComparisonOutdated, GatesFailed, NothingToRollBackTo, UnknownModel, UnknownVersion
from models.traffic import PARTS, read_splits, write_split

CHAMPION = "champion"
CHALLENGER = "challenger"

versions_table = sa.Table(
    "versions",
    metadata,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("job", sa.String, nullable=False, unique=True),
    sa.Column("directory", sa.String, nullable=False),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("gates", sa.JSON, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
)
aliases_table = sa.Table(
    "aliases",
    metadata,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("alias", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
moves_table = sa.Table(
    "alias_moves",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("alias", sa.String, nullable=False),
    sa.Column("previous", sa.Integer),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("moved_at", sa.String, nullable=False),
    sa.Column("moved_by", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("forced", sa.Boolean, nullable=False),
    sa.Column("rollback", sa.Boolean, nullable=False),
)
decisions_table = sa.Table(
    "gate_decisions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("alias", sa.String, nullable=False),
    # The job that asked, when one did: it is decided once, however often the job is taken up again.
    sa.Column("job", sa.String, unique=True),
    sa.Column("gates", sa.JSON, nullable=False),
    sa.Column("moved", sa.Boolean, nullable=False),
    sa.Column("forced", sa.Boolean, nullable=False),
    sa.Column("decided_at", sa.String, nullable=False),
    sa.Column("decided_by", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)
deleted_versions_table = sa.Table(
    "deleted_versions",
    metadata,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("job", sa.String, nullable=False),
    sa.Column("directory", sa.String, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("deleted_at", sa.String, nullable=False),
    sa.Column("deleted_by", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("swept", sa.Boolean, nullable=False),
)


@dataclass(frozen=True, slots=True)
class VersionRecord:
    model: str
    version: int
    job: str
    directory: str
    task: str
    gates: list[dict[str, Any]]
    created_at: str


@dataclass(frozen=True, slots=True)
class ModelRecord:
    name: str
    task: str
    aliases: dict[str, int]
    versions: tuple[VersionRecord, ...]
    traffic: dict[str, int] = field(default_factory=dict)
    """Shares of requests that name no version, by alias; empty where the champion gets all."""

    def resolve(self, version: str) -> VersionRecord:
        """The record of a version number or alias. Raises `UnknownVersion` with the ones that exist."""
        number = self.aliases.get(version, int(version) if _is_number(version) else None)
        for record in self.versions:
            if record.version == number:
                return record
        raise UnknownVersion(self.name, version, [v.version for v in self.versions], sorted(self.aliases))


def _is_number(version: str) -> bool:
    """Longer ones are no number of ours, and Python refuses to read thousands of digits."""
    return version.isascii() and version.isdecimal() and len(version) < 20


@dataclass(frozen=True, slots=True)
class AliasMove:
    alias: str
    version: int
    previous: int | None


class Registry:
    """Versions and aliases. Every change is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        create_tables(engine)

    def register(
        self,
        *,
        model: str,
        job: str,
        directory: str,
        task: str,
        gates: list[dict[str, Any]],
        attempt: int | None = None,
    ) -> int:
        """Gives the version that a job built the next number of its model; the same job always gets the same one.

        Raises:
            Overtaken: when a later attempt of the job has begun.
        """
        with writing(self._engine) as connection:
            held = sa.select(versions_table.c.version).where(versions_table.c.job == job)
            if (existing := connection.execute(held).scalar()) is not None:
                return existing
            if attempt is not None:
                check_attempt(connection, job, attempt)
            # A number is never given twice: what was written down about a deleted version stays true.
            highest = (
                connection.execute(sa.select(sa.func.max(table.c.version)).where(table.c.model == model)).scalar()
                for table in (versions_table, deleted_versions_table)
            )
            version = max(number or 0 for number in highest) + 1
            connection.execute(
                versions_table.insert().values(
                    model=model,
                    version=version,
                    job=job,
                    directory=directory,
                    task=task,
                    gates=gates,
                    created_at=now(),
                )
            )
            return version

    def models(self) -> dict[str, ModelRecord]:
        """Everything the registry holds, by model name, read in one transaction."""
        with self._reader.begin() as connection:
            versions = connection.execute(sa.select(versions_table).order_by(versions_table.c.version)).mappings().all()
            aliases = connection.execute(sa.select(aliases_table)).mappings().all()
            splits = read_splits(connection)
        records: dict[str, list[VersionRecord]] = {}
        for row in versions:
            records.setdefault(row["model"], []).append(VersionRecord(**row))
        return {
            name: ModelRecord(
                name=name,
                task=held[-1].task,
                aliases={row["alias"]: row["version"] for row in aliases if row["model"] == name},
                versions=tuple(held),
                traffic=splits.get(name, {}),
            )
            for name, held in sorted(records.items())
        }

    def model(self, name: str) -> ModelRecord:
        """One model. Raises `UnknownModel` with the names that exist."""
        models = self.models()
        if name not in models:
            raise UnknownModel(name, list(models))
        return models[name]

    def promote(
        self,
        *,
        model: str,
        version: int,
        job: str,
        gates: list[dict[str, Any]] | None = None,
        attempt: int | None = None,
        final: bool = False,
    ) -> bool | None:
        """Decides whether the version that a job built becomes the champion, and says whether it did.

        Gates, decision and move are one transaction. A job is decided once: taken up again, it gets the same answer.

        Args:
            gates: as they were judged last; None where that was when the version was registered.
            final: decide against a version whose comparison is outdated, in place of asking for another one.

        Returns:
            None when a gate compares the version with one that is not the champion any more: nothing is decided, and
            it has to be judged again.

        Raises:
            Overtaken: when a later attempt of the job has begun.
        """
        with writing(self._engine) as connection:
            earlier = sa.select(decisions_table.c.moved).where(decisions_table.c.job == job)
            if (decided := connection.execute(earlier).scalar()) is not None:
                return decided
            if attempt is not None:
                check_attempt(connection, job, attempt)
            if gates is None:
                gates = self._gates(connection, model, version)
            else:
                where = (versions_table.c.model == model, versions_table.c.version == version)
                connection.execute(versions_table.update().where(*where).values(gates=gates))
            failed, current = failed_gates(gates), self._alias(connection, model, CHAMPION)
            outdated = not failed and is_outdated(gates, current)
            if outdated and not final:
                return None
            reason = f"failed: {', '.join(failed)}" if failed else "gates passed"
            if outdated:
                reason = "the champion moved whenever the version had been compared with it"
            moved = not failed and not outdated
            move = AliasMove(CHAMPION, version, current)
            self._decide(
                connection, model, move, gates, by=f"job {job}", reason=reason, job=job, moved=moved, forced=False
            )
            return moved

    def move_alias(
        self, model: str, alias: str, version: str, *, by: str, reason: str, force: bool = False
    ) -> AliasMove:
        """Points an alias at a version (a number or another alias). Decision and move are recorded in one transaction.

        Raises:
            UnknownModel, UnknownVersion: when there is no such thing.
            GatesFailed: when the version failed its gates and the move is not forced; the refusal is recorded too.
            ComparisonOutdated: when it would become the champion and was compared with one that is champion no more.
        """
        record = self.model(model).resolve(version)
        with writing(self._engine) as connection:
            gates = self._gates(connection, model, record.version)
            failed, current = failed_gates(gates), self._alias(connection, model, CHAMPION)
            move = AliasMove(alias, record.version, self._alias(connection, model, alias))
            outdated = alias == CHAMPION and current != record.version and is_outdated(gates, current)
            refused = bool(failed) or outdated
            if move.previous != move.version:
                moved = force or not refused
                self._decide(
                    connection, model, move, gates, by=by, reason=reason, moved=moved, forced=refused and force
                )
        if failed and not force:
            raise GatesFailed(model, record.version, failed)
        if outdated and not force:
            raise ComparisonOutdated(model, record.version, current)
        return move

    def split_traffic(self, model: str, shares: Mapping[str, int], *, by: str) -> None:
        """Splits the requests that name no version between aliases; all of them for the champion ends a split.

        Raises:
            UnknownModel, UnknownVersion: when there is no such model or alias.
        """
        record = self.model(model)
        for alias in shares:
            if alias not in record.aliases:
                raise UnknownVersion(model, alias, [], sorted(record.aliases))
        with writing(self._engine) as connection:
            write_split(connection, model, {} if shares.get(CHAMPION) == PARTS else shares, by=by)

    def rollback(self, model: str, *, by: str, reason: str, alias: str = CHAMPION) -> AliasMove:
        """Points an alias back at what it was before its last move that was not itself a rollback.

        Raises:
            UnknownModel: when there is no such model.
            NothingToRollBackTo: when the alias has never pointed elsewhere.
        """
        self.model(model)
        with writing(self._engine) as connection:
            earlier, current = self._last_two(connection, model, alias)
            self._point(connection, model, alias, earlier, current, by, reason, rollback=True)
            return AliasMove(alias, earlier, current)

    def rollback_target(self, model: str, alias: str = CHAMPION) -> VersionRecord:
        """The version that `rollback` would point an alias at now. Raises what `rollback` raises."""
        record = self.model(model)
        with self._reader.begin() as connection:
            earlier, _ = self._last_two(connection, model, alias)
        return record.resolve(str(earlier))

    def moves(self, model: str, *, limit: int) -> list[dict[str, Any]]:
        """The latest moves of a model's aliases, newest first: alias, from, to, when, by whom, why, and how."""
        with self._reader.begin() as connection:
            found = sa.select(moves_table).where(moves_table.c.model == model)
            rows = connection.execute(found.order_by(moves_table.c.id.desc()).limit(limit)).mappings()
            return [{name: row[name] for name in row if name not in ("id", "model")} for row in rows]

    def decisions(self, model: str, version: int) -> list[dict[str, Any]]:
        """What was decided about a version, oldest first: gates, whether an alias moved, who decided and why."""
        where = (decisions_table.c.model == model, decisions_table.c.version == version)
        with self._reader.begin() as connection:
            found = sa.select(decisions_table).where(*where).order_by(decisions_table.c.id)
            return [
                {str(name): row[name] for name in row if name not in ("id", "model", "version")}
                for row in connection.execute(found).mappings()
            ]

    def _last_two(self, connection: sa.Connection, model: str, alias: str) -> tuple[int, int]:
        """The version that an alias would be rolled back to, and the one it was last moved to."""
        stack = _stack(connection, model, alias)
        if len(stack) < 2:
            raise NothingToRollBackTo(model, alias)
        return stack[-2], stack[-1]

    def _gates(self, connection: sa.Connection, model: str, version: int) -> list[dict[str, Any]]:
        where = (versions_table.c.model == model, versions_table.c.version == version)
        return connection.execute(sa.select(versions_table.c.gates).where(*where)).scalar_one()

    def _decide(
        self,
        connection: sa.Connection,
        model: str,
        move: AliasMove,
        gates: list[dict[str, Any]],
        *,
        by: str,
        reason: str,
        moved: bool,
        forced: bool,
        job: str | None = None,
    ) -> None:
        """Records a decision and, when it says so, moves the alias."""
        connection.execute(
            decisions_table.insert().values(
                model=model,
                version=move.version,
                alias=move.alias,
                job=job,
                gates=gates,
                moved=moved,
                forced=forced,
                decided_at=now(),
                decided_by=by,
                reason=reason,
            )
        )
        if moved and move.previous != move.version:
            self._point(connection, model, move.alias, move.version, move.previous, by, reason, forced=forced)

    def _alias(self, connection: sa.Connection, model: str, alias: str) -> int | None:
        where = (aliases_table.c.model == model, aliases_table.c.alias == alias)
        return connection.execute(sa.select(aliases_table.c.version).where(*where)).scalar()

    def _point(
        self,
        connection: sa.Connection,
        model: str,
        alias: str,
        version: int,
        previous: int | None,
        by: str,
        reason: str,
        *,
        forced: bool = False,
        rollback: bool = False,
    ) -> None:
        if previous is None:
            connection.execute(aliases_table.insert().values(model=model, alias=alias, version=version))
        else:
            where = (aliases_table.c.model == model, aliases_table.c.alias == alias)
            connection.execute(aliases_table.update().where(*where).values(version=version))
        connection.execute(
            moves_table.insert().values(
                model=model,
                alias=alias,
                previous=previous,
                version=version,
                moved_at=now(),
                moved_by=by,
                reason=reason,
                forced=forced,
                rollback=rollback,
            )
        )


def _stack(connection: sa.Connection, model: str, alias: str) -> list[int]:
    """The moves of an alias that are not undone, replayed, so that rolling back twice goes back two moves."""
    moves = connection.execute(
        sa.select(moves_table.c.version, moves_table.c.rollback)
        .where(moves_table.c.model == model, moves_table.c.alias == alias)
        .order_by(moves_table.c.id)
    ).all()
    deleted = set(
        connection.execute(
            sa.select(deleted_versions_table.c.version).where(deleted_versions_table.c.model == model)
        ).scalars()
    )
    stack: list[int] = []
    for version, was_rollback in moves:
        if was_rollback:
            stack.pop()
        else:
            stack.append(version)
    left: list[int] = []
    for version in stack:
        # With a deleted version gone from between them, two moves can be to the same one.
        if version not in deleted and left[-1:] != [version]:
            left.append(version)
    return left


def earlier_of(connection: sa.Connection, model: str, alias: str) -> int | None:
    """The version that a rollback would point an alias at, if there is one."""
    stack = _stack(connection, model, alias)
    return stack[-2] if len(stack) > 1 else None


def failed_gates(gates: list[dict[str, Any]]) -> list[str]:
    """The names of the gates that did not pass."""
    return [gate["gate"] for gate in gates if not gate["passed"]]


def is_outdated(gates: list[dict[str, Any]], champion: int | None) -> bool:
    """Whether a gate has compared with a version that is not the champion (None: with none, when there was none)."""
    return any("champion" in gate and gate["champion"] != champion for gate in gates)
