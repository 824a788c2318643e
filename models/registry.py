"""The registry: which versions exist, where aliases point, and every move they made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from models.errors import GatesFailed, NothingToRollBackTo, UnknownModel, UnknownVersion

CHAMPION = "champion"

metadata = sa.MetaData()

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

    def resolve(self, version: str) -> VersionRecord:
        """The record of a version number or alias. Raises `UnknownVersion` with the ones that exist."""
        number = self.aliases.get(version, int(version) if version.isdecimal() else None)
        for record in self.versions:
            if record.version == number:
                return record
        raise UnknownVersion(self.name, version, [v.version for v in self.versions], sorted(self.aliases))


@dataclass(frozen=True, slots=True)
class AliasMove:
    alias: str
    version: int
    previous: int | None


def open_database(url: str) -> sa.Engine:
    """Opens (and where needed creates) the database of the registry; SQLite in WAL mode with foreign keys."""
    engine = sa.create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            # SQLAlchemy's driver would begin a write transaction late, after reading: two writers then fail instead
            # of waiting. BEGIN IMMEDIATE below takes the lock first.
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA busy_timeout=30000")

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            reading = connection.get_execution_options().get("read_only", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


class Registry:
    """Versions and aliases. Every change is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(read_only=True)
        metadata.create_all(engine)

    def register(self, *, model: str, job: str, directory: str, task: str, gates: list[dict[str, Any]]) -> int:
        """Gives the version that a job built the next number of its model; the same job always gets the same one."""
        with self._engine.begin() as connection:
            held = sa.select(versions_table.c.version).where(versions_table.c.job == job)
            if (existing := connection.execute(held).scalar()) is not None:
                return existing
            highest = sa.select(sa.func.max(versions_table.c.version)).where(versions_table.c.model == model)
            version = (connection.execute(highest).scalar() or 0) + 1
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
        records: dict[str, list[VersionRecord]] = {}
        for row in versions:
            records.setdefault(row["model"], []).append(VersionRecord(**row))
        return {
            name: ModelRecord(
                name=name,
                task=held[-1].task,
                aliases={row["alias"]: row["version"] for row in aliases if row["model"] == name},
                versions=tuple(held),
            )
            for name, held in sorted(records.items())
        }

    def model(self, name: str) -> ModelRecord:
        """One model. Raises `UnknownModel` with the names that exist."""
        models = self.models()
        if name not in models:
            raise UnknownModel(name, list(models))
        return models[name]

    def move_alias(
        self, model: str, alias: str, version: str, *, by: str, reason: str, force: bool = False
    ) -> AliasMove:
        """Points an alias at a version (a number or another alias) and records the move.

        Raises:
            UnknownModel, UnknownVersion: when there is no such thing.
            GatesFailed: when the version failed its gates and the move is not forced.
        """
        record = self.model(model).resolve(version)
        failed = [gate["gate"] for gate in record.gates if not gate["passed"]]
        if failed and not force:
            raise GatesFailed(model, record.version, failed)
        with self._engine.begin() as connection:
            previous = self._alias(connection, model, alias)
            if previous != record.version:
                self._point(connection, model, alias, record.version, previous, by, reason, forced=bool(failed))
        return AliasMove(alias, record.version, previous)

    def rollback(self, model: str, *, by: str, reason: str, alias: str = CHAMPION) -> AliasMove:
        """Points an alias back at what it was before its last move that was not itself a rollback.

        Raises:
            UnknownModel: when there is no such model.
            NothingToRollBackTo: when the alias has never pointed elsewhere.
        """
        self.model(model)
        with self._engine.begin() as connection:
            moves = connection.execute(
                sa.select(moves_table.c.version, moves_table.c.rollback)
                .where(moves_table.c.model == model, moves_table.c.alias == alias)
                .order_by(moves_table.c.id)
            ).all()
            # Replayed as a stack, so that rolling back twice goes back two moves.
            stack: list[int] = []
            for version, was_rollback in moves:
                if was_rollback:
                    stack.pop()
                else:
                    stack.append(version)
            if len(stack) < 2:
                raise NothingToRollBackTo(model, alias)
            self._point(connection, model, alias, stack[-2], stack[-1], by, reason, rollback=True)
            return AliasMove(alias, stack[-2], stack[-1])

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


def now() -> str:
    """The time as RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
