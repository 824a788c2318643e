"""Which versions may be deleted, and how: a version that anything needs is never one of them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from models.database import create_tables, now, reader_of, writing
from models.registry import (
    ModelRecord,
    VersionRecord,
    aliases_table,
    deleted_versions_table,
    earlier_of,
    versions_table,
)

logger = logging.getLogger("vitrine.retention")

VersionKey = tuple[str, int]
"""A model and the number of one of its versions."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a version may go, and why or why not."""

    record: VersionRecord
    delete: bool
    reason: str


def judge_versions(
    models: Collection[ModelRecord], needed: dict[VersionKey, str], *, keep: int, rollbacks: Collection[VersionKey]
) -> list[Verdict]:
    """A verdict on each version, by model and number.

    Kept are the latest `keep` of each model, those that an alias points at, those that a rollback would point one at,
    and those that are `needed`.

    Args:
        needed: versions with what needs them, in words.
    """
    verdicts = []
    for model in sorted(models, key=lambda model: model.name):
        latest = {record.version for record in model.versions[max(0, len(model.versions) - keep) :]}
        for record in model.versions:
            key = (model.name, record.version)
            aliases = [alias for alias, version in model.aliases.items() if version == record.version]
            if aliases:
                verdicts.append(Verdict(record, False, f"{' and '.join(sorted(aliases))} points at it"))
            elif key in rollbacks:
                verdicts.append(Verdict(record, False, "a rollback would need it"))
            elif key in needed:
                verdicts.append(Verdict(record, False, needed[key]))
            elif record.version in latest:
                verdicts.append(Verdict(record, False, f"one of the latest {keep}"))
            else:
                verdicts.append(Verdict(record, True, f"not one of the latest {keep}, and nothing needs it"))
    return verdicts


class Retention:
    """Deletes versions: first from the registry, with a record of it, then from the disk."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        create_tables(engine)

    def rollbacks(self) -> set[VersionKey]:
        """The versions that a rollback of each alias would point it at."""
        with self._reader.begin() as connection:
            places = connection.execute(sa.select(aliases_table.c.model, aliases_table.c.alias)).all()
            found = ((model, earlier_of(connection, model, alias)) for model, alias in places)
            return {(model, version) for model, version in found if version is not None}

    def delete(self, verdicts: Sequence[Verdict], *, by: str) -> list[VersionRecord]:
        """Deletes the versions that may go, but for those that an alias was moved to meanwhile."""
        deleted = []
        for verdict in verdicts:
            if verdict.delete and self._strike(verdict, by):
                deleted.append(verdict.record)
        self.sweep()
        return deleted

    def sweep(self) -> None:
        """Removes the folders of deleted versions; those that a process left when it was killed too."""
        unswept = sa.select(deleted_versions_table).where(deleted_versions_table.c.swept.is_(False))
        with self._reader.begin() as connection:
            rows = connection.execute(unswept).all()
        for row in rows:
            shutil.rmtree(row.directory, ignore_errors=True)
            if Path(row.directory).exists():
                logger.warning("%s could not be removed; it is tried again", row.directory)
                continue
            place = (deleted_versions_table.c.model == row.model, deleted_versions_table.c.version == row.version)
            with writing(self._engine) as connection:
                connection.execute(deleted_versions_table.update().where(*place).values(swept=True))

    def _strike(self, verdict: Verdict, by: str) -> bool:
        record = verdict.record
        with writing(self._engine) as connection:
            pointing = sa.select(aliases_table.c.alias).where(
                aliases_table.c.model == record.model, aliases_table.c.version == record.version
            )
            if connection.execute(pointing).first() is not None:
                return False
            place = (versions_table.c.model == record.model, versions_table.c.version == record.version)
            if connection.execute(versions_table.delete().where(*place)).rowcount == 0:
                return False  # another process was first
            connection.execute(
                deleted_versions_table.insert().values(
                    model=record.model,
                    version=record.version,
                    job=record.job,
                    directory=record.directory,
                    created_at=record.created_at,
                    deleted_at=now(),
                    deleted_by=by,
                    reason=verdict.reason,
                    swept=False,
                )
            )
        logger.info("version %d of %s is deleted: %s", record.version, record.model, verdict.reason)
        return True
