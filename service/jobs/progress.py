"""How far each job has come: written by its trainer, read by whoever asks. The job's state itself is DBOS's."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from models.database import metadata, now

progress_table = sa.Table(
    "job_progress",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("progress", sa.JSON),
    sa.Column("updated_at", sa.String, nullable=False),
)


class JobProgress:
    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(read_only=True)
        metadata.create_all(engine)

    def write(self, job: str, step: str, progress: dict[str, Any] | None = None) -> None:
        """Sets the step of a job; its epoch figures stay as they are when none are given."""
        values: dict[str, Any] = {"step": step, "updated_at": now()}
        if progress is not None:
            values["progress"] = progress
        with self._engine.begin() as connection:
            update = progress_table.update().where(progress_table.c.job == job).values(**values)
            if connection.execute(update).rowcount == 0:
                connection.execute(progress_table.insert().values(job=job, **values))

    def read(self, jobs: list[str]) -> dict[str, tuple[str, dict[str, Any] | None]]:
        """Step and epoch figures by job, for those that have begun."""
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(progress_table).where(progress_table.c.job.in_(jobs))).mappings()
            return {row["job"]: (row["step"], row["progress"]) for row in rows}
