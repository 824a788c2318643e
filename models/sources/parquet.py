"""Parquet files: typed columns, of which numbers, truth values, dates and strings are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.public import without_folders
from models.sources.source import Source, refused

_BATCH_ROWS = 65_536


def open_parquet(path: Path, *, expanded_limit_bytes: int) -> Source:
    """Reads the footer of a Parquet file.

    Raises:
        UnreadableData: when it is damaged, has no rows, or would take more memory than the limit.
    """
    try:
        file = pq.ParquetFile(path)
        metadata, schema = file.metadata, file.schema_arrow
    except (pa.ArrowInvalid, OSError) as error:
        received = f"a file that cannot be read as one ({without_folders(str(error))[:200]})"
        raise refused("a Parquet file", received, "was it cut off on the way? Write it anew") from None
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise refused("a different name for each column", f"several columns named {twice[0]!r}")
    expanded = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    # Runs of one value take next to nothing in the file, and eight bytes a cell once they are read.
    expanded = max(expanded, 8 * metadata.num_rows * len(schema.names))
    if expanded > expanded_limit_bytes:
        raise refused(
            f"at most {expanded_limit_bytes:,} bytes once it is read", f"{expanded:,} bytes", _raise_the_limit()
        )
    if metadata.num_rows == 0:
        raise refused("rows", "a table without a row")
    unsupported = {name: str(schema.field(name).type) for name in schema.names if not _is_read(schema.field(name).type)}
    if len(schema.names) - len(unsupported) < 2:
        raise refused("a target and at least one feature", f"{len(schema.names) - len(unsupported)} readable columns")

    def batches() -> Iterator[Any]:
        kept = [name for name in schema.names if name not in unsupported]
        try:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH_ROWS, columns=kept, use_threads=False):
                yield pa.record_batch({name: _plain(batch.column(name)) for name in kept})
        except (pa.ArrowInvalid, OSError) as error:
            raise refused(
                "a whole Parquet file", f"one that breaks off ({without_folders(str(error))[:200]})"
            ) from None

    return Source(
        "parquet", tuple(schema.names), batches, parses_text=False, unsupported=unsupported,
        reading={"row_groups": metadata.num_row_groups},
    )  # fmt: skip


def _is_read(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
    )


def _plain(array: Any) -> Any:
    """A column as one of the few types that the rest knows."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return array.cast(pa.float64())
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("ms", tz=getattr(kind, "tz", None) and "UTC"), safe=False)
    return array


def _raise_the_limit() -> str:
    return "send fewer rows or columns, or raise VITRINE_DATASET_EXPANDED_LIMIT_BYTES"
