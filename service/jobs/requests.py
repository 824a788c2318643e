"""What was asked for: the model of each job, and the key under which a client may ask again without doubling it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from models.database import create_tables, metadata, now, reader_of, writing
from service.errors import IdempotencyKeyReused

requests_table = sa.Table(
    "job_requests",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False, index=True),
    sa.Column("idempotency_key", sa.String, unique=True),
    sa.Column("body_sha256", sa.String, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class KeyedJob:
    key: str
    job: str


class JobRequests:
    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        create_tables(engine)

    def accept(self, job: str, model: str, document: Any, key: str | None) -> str:
        """Writes a request down and returns its job: that of the earlier request when the key has come before.

        Raises:
            IdempotencyKeyReused: when the key came with another body.
        """
        digest = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
        with writing(self._engine) as connection:
            if key is not None:
                earlier = sa.select(requests_table.c.job, requests_table.c.body_sha256)
                found = connection.execute(earlier.where(requests_table.c.idempotency_key == key)).first()
                if found is not None and found.body_sha256 != digest:
                    raise IdempotencyKeyReused(key, found.job)
                if found is not None:
                    return found.job
            connection.execute(
                requests_table.insert().values(
                    job=job, model=model, idempotency_key=key, body_sha256=digest, created_at=now()
                )
            )
        return job

    def latest(self, model: str, limit: int) -> list[str]:
        """The latest jobs of a model, newest first: the names of jobs rise with time."""
        chosen = sa.select(requests_table.c.job).where(requests_table.c.model == model)
        with self._reader.begin() as connection:
            return list(connection.execute(chosen.order_by(requests_table.c.job.desc()).limit(limit)).scalars())

    def latest_by_key(self, prefix: str) -> KeyedJob | None:
        """The latest job whose idempotency key begins so."""
        key, job = requests_table.c.idempotency_key, requests_table.c.job
        chosen = sa.select(key, job).where(key.startswith(prefix, autoescape=True)).order_by(job.desc()).limit(1)
        with self._reader.begin() as connection:
            found = connection.execute(chosen).first()
        return KeyedJob(found[0], found[1]) if found else None
