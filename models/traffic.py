"""How the requests for a model that name no version are split between its aliases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import sqlalchemy as sa

from models.database import metadata, now

PARTS = 100
"""What the shares of a split sum to."""

traffic_table = sa.Table(
    "traffic",
    metadata,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("alias", sa.String, primary_key=True),
    sa.Column("share", sa.Integer, nullable=False),
    sa.Column("set_at", sa.String, nullable=False),
    sa.Column("set_by", sa.String, nullable=False),
)


def write_split(connection: sa.Connection, model: str, shares: Mapping[str, int], *, by: str) -> None:
    """Replaces the split of a model; aliases without a share are left out."""
    connection.execute(traffic_table.delete().where(traffic_table.c.model == model))
    rows = [
        {"model": model, "alias": alias, "share": share, "set_at": now(), "set_by": by}
        for alias, share in shares.items()
        if share
    ]
    if rows:
        connection.execute(traffic_table.insert(), rows)


def read_splits(connection: sa.Connection) -> dict[str, dict[str, int]]:
    """The shares of each model that has a split, by alias, in the order of their names."""
    splits: dict[str, dict[str, int]] = {}
    for row in connection.execute(sa.select(traffic_table).order_by(traffic_table.c.alias)).mappings():
        splits.setdefault(row["model"], {})[row["alias"]] = row["share"]
    return splits


def alias_of(model: str, shares: Mapping[str, int], key: str) -> str:
    """The alias that serves a key: the same one for as long as the shares are the same, on every replica.

    Keys are spread by the hash of model and key. When a share grows, keys come to it and none leaves it, where there
    are two aliases.
    """
    digest = hashlib.sha256(f"{model}\0{key}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(shares.values())
    reached = 0
    for alias, share in shares.items():
        reached += share
        if point < reached:
            return alias
    return [*shares][-1]
