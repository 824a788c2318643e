"""`application/vnd.apache.arrow.stream`: record batches with a column for each feature."""

from __future__ import annotations

import datetime
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.errors import pointer
from models.signature import Signature
from service.errors import NotReadable
from service.formats.rows import unusable

MAX_TEXT_BYTES = 64 * 2**20
"""Of the strings of a request, once dictionaries are resolved: thousands of rows may name one long word."""
_COMPRESSION = 3
"""The field of a RecordBatch in Arrow's Message.fbs that says how its buffers are compressed."""


@dataclass(frozen=True, slots=True)
class ArrowRows:
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def read_as(self, signature: Signature) -> list[Any] | NDArray[Any]:
        if signature.kind in ("image", "series"):
            return self._array(signature)
        columns = {
            column.name: _values(column.name, self.table.column(i)) for i, column in enumerate(self.table.schema)
        }
        return [{name: values[row] for name, values in columns.items()} for row in range(len(self))]

    def _array(self, signature: Signature) -> NDArray[Any]:
        """The one column of lists, nested or flat, as an array `(n_rows, *input_shape)`."""
        name, shape = signature.feature_names[0], signature.input_shape
        self._check_columns(signature)
        place = pointer("inputs", name)
        values: Any = self.table.column(name).combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks)
        sizes: list[int | None] = []
        while _is_list(values.type):
            if values.null_count:
                raise unusable("a list in every row", "null", place)
            lengths = pc.min_max(pc.list_value_length(values)).as_py()  # type: ignore[attr-defined]
            # None where lists differ: all of them together may still have as many numbers as the rows should have.
            sizes.append(lengths["min"] if lengths["min"] == lengths["max"] else None)
            values = values.flatten()
        bare = shape[:-1] if shape[-1] == 1 else shape
        if tuple(sizes) not in (shape, bare, (signature.row_values,)):
            expected = f"lists of {' x '.join(map(str, shape))} numbers, nested or flat"
            received = " x ".join("lists of different lengths" if size is None else str(size) for size in sizes)
            raise unusable(expected, received or str(values.type)[:100], place)
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
            raise unusable("numbers", str(values.type)[:100], place)
        return _numbers(values).reshape(len(self), *shape)

    def _check_columns(self, signature: Signature) -> None:
        known = {*signature.feature_names, signature.target, *signature.ignored}
        for name in signature.feature_names:
            if name not in self.table.column_names:
                raise unusable(f"a column {name!r}", f"{', '.join(self.table.column_names)[:200] or 'no columns'}")
        if strangers := [name for name in self.table.column_names if name not in known]:
            place = pointer("inputs", strangers[0][:100])
            raise unusable("no such feature", "a column", place, "not in the signature")


def read_arrow(body: bytes, max_rows: int) -> ArrowRows:
    """A body as a table of no more rows than there may be, and a batch. All is checked before a value is read.

    Raises:
        NotReadable: for what is no stream, is compressed (its size would not be known before it is unpacked), or has
            columns of other types than numbers, booleans, strings, dates, times, and lists of numbers.
    """
    batches, n_rows = [], 0
    try:
        _check_messages(body)
        with pa.ipc.open_stream(body) as reader:
            _check_types(reader.schema)
            for batch in reader:
                batches.append(batch)
                n_rows += batch.num_rows
                if n_rows > max_rows:
                    break
            table = pa.Table.from_batches(batches, reader.schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise NotReadable(f"The body is no Arrow stream: {str(error)[:300].rstrip('.')}.") from None
    if not n_rows:
        raise NotReadable("The Arrow stream has no rows.")
    if n_rows <= max_rows:
        table = _with_strings(table)
    return ArrowRows(table)


def _check_messages(body: bytes) -> None:
    for message in _messages(body):
        if message.type in ("record batch", "dictionary") and _is_compressed(message):
            raise NotReadable("The Arrow stream is compressed. Send it as it is, or compress the body with gzip.")


def _messages(body: bytes) -> Iterator[Any]:
    reader = pa.ipc.MessageReader.open_stream(body)
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _is_compressed(message: Any) -> bool:
    """Whether a message's buffers are. Its metadata is a flatbuffer, which Arrow has verified: a table begins with the
    distance back to its list of offsets, in which field i is at 4 + 2 i."""
    data = message.metadata.to_pybytes()

    def table_at(place: int) -> int:
        return place + struct.unpack_from("<I", data, place)[0]

    def field(table: int, number: int) -> int | None:
        offsets = table - struct.unpack_from("<i", data, table)[0]
        size = struct.unpack_from("<H", data, offsets)[0]
        at = 4 + 2 * number
        offset = struct.unpack_from("<H", data, offsets + at)[0] if at < size else 0
        return table + offset if offset else None

    header = field(table_at(0), 2)  # Message.header
    if header is None:
        return False
    batch = table_at(header)
    if message.type == "dictionary":
        held = field(batch, 1)  # DictionaryBatch.data
        if held is None:
            return False
        batch = table_at(held)
    return field(batch, _COMPRESSION) is not None


def _check_types(schema: pa.Schema) -> None:
    if doubled := sorted(name for name, count in Counter(schema.names).items() if count > 1):
        raise NotReadable(f"The Arrow stream names the column {doubled[0][:100]!r} twice.")
    for column in schema:
        if not _is_usable(column.type):
            raise NotReadable(
                f"Column {column.name[:100]!r} of the Arrow stream is {str(column.type)[:100]}: expected numbers, "
                "booleans, strings, dates or times, or lists of numbers."
            )


def _is_usable(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
    while _is_list(kind):
        kind = kind.value_type
        if not (_is_list(kind) or types.is_integer(kind) or types.is_floating(kind)):
            return False
    return (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_date(kind)
        or types.is_timestamp(kind)
        or types.is_null(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _with_strings(table: pa.Table) -> pa.Table:
    """The table with strings in place of codes of dictionaries."""
    for place, column in enumerate(table.schema):
        if not pa.types.is_dictionary(column.type):
            continue
        needed = 0
        for chunk in table.column(place).chunks:
            longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() if len(chunk.dictionary) else 0  # type: ignore[attr-defined]
            needed += len(chunk) * (longest or 0)
        if needed > MAX_TEXT_BYTES:
            raise NotReadable(
                f"Column {column.name[:100]!r} of the Arrow stream can have {needed:,} bytes once its dictionary is "
                f"resolved: expected at most {MAX_TEXT_BYTES:,}."
            )
        table = table.set_column(place, column.name, table.column(place).cast(column.type.value_type))
    return table


def _values(name: str, column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as JSON would have them."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's times have no nanoseconds: Arrow would import pandas for them.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        return [_plain(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, LookupError):
        expected = "dates and times of the years 1 to 9999, in a time zone that is known"
        raise unusable(expected, f"others, as {str(column.type)[:100]}", pointer("inputs", name[:100])) from None


def _numbers(values: Any) -> NDArray[Any]:
    """An array of Arrow's as one of NumPy's, NaN where it has nothing. By the protocol that both speak: whatever else
    goes from one to the other imports pandas."""
    if not values.null_count:
        return np.from_dlpack(values)
    held = pa.Array.from_buffers(values.type, len(values), [None, values.buffers()[1]], offset=values.offset)
    missing = np.from_dlpack(values.is_null().cast(pa.uint8()))
    return np.where(missing == 1, np.nan, np.from_dlpack(held))


def _plain(value: Any) -> Any:
    """A value as JSON would have it."""
    if isinstance(value, datetime.date):  # and its subclass, datetime
        return value.isoformat()
    if isinstance(value, np.generic):
        return value.item()
    return value
