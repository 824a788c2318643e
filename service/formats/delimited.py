"""`text/csv`: a header with the names of features, then a line for each row; an empty cell is a missing value."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any

from models.encoding.faults import MAX_FAULTS
from models.errors import Fault, InvalidRows, pointer
from models.signature import Signature
from models.sources.limits import MAX_CELL_CHARACTERS
from service.errors import NotReadable
from service.formats.rows import unusable

BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class DelimitedRows:
    """Cells as they were written, `header` above."""

    header: list[str]
    cells: list[list[str]]

    def __len__(self) -> int:
        return len(self.cells)

    def read_as(self, signature: Signature) -> list[Any]:
        if signature.kind in ("image", "series"):
            raise unusable(f"a body that can hold one {signature.kind} a row", "text/csv, which holds columns")
        self._check_header(signature)
        kinds = {feature.name: feature.kind for feature in signature.features}
        columns = [_READERS.get(kinds.get(name, ""), _read_string) for name in self.header]
        return [
            {name: read(cell) for name, read, cell in zip(self.header, columns, line, strict=True)}
            for line in self.cells
        ]

    def _check_header(self, signature: Signature) -> None:
        """Once, in place of the same fault in every row."""
        known = {*signature.feature_names, signature.target, *signature.ignored}
        faults = [
            Fault(pointer("inputs", "header", name), "a column", "nothing", "missing feature")
            for name in signature.feature_names
            if name not in self.header
        ]
        strangers = (
            Fault(pointer("inputs", "header", name[:100]), "no such feature", "a column", "not in the signature")
            for name in self.header
            if name not in known
        )
        if faults := [*faults, *islice(strangers, MAX_FAULTS)]:
            raise InvalidRows(faults)


def read_csv(body: bytes, max_rows: int) -> DelimitedRows:
    """A body as its header and cells; no more lines are read than there may be rows, and one.

    Raises:
        NotReadable: naming the line that is not as wide as the header, and what else is wrong with the form.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotReadable(f"The CSV is not UTF-8: {error.reason} at byte {error.start}.") from None
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    cells: list[list[str]] = []
    try:
        header = next(reader, None)
        if not header:
            raise NotReadable("The CSV is empty: a header with the names of the features is expected.")
        doubled = [name for name, count in Counter(header).items() if count > 1]
        if doubled:
            raise NotReadable(f"The CSV's header names {doubled[0][:100]!r} twice.")
        for line in reader:
            if not line and len(header) > 1:
                continue  # an empty line
            if len(line or [""]) != len(header):
                raise NotReadable(
                    f"Line {reader.line_num} of the CSV has {len(line)} cells: its header has {len(header)}."
                )
            cells.append(line or [""])
            if len(cells) > max_rows:
                break
    except csv.Error as error:
        raise NotReadable(f"Line {reader.line_num} of the CSV cannot be read: {error}.") from None
    if not cells:
        raise NotReadable("The CSV has a header and no rows.")
    return DelimitedRows(header, cells)


def _read_string(cell: str) -> str | None:
    return cell or None


def _read_number(cell: str) -> float | str | None:
    """A number; what is none stays as it is, and is refused where it is named."""
    cell = cell.strip()
    if not cell:
        return None
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) and "_" not in cell else cell


def _read_boolean(cell: str) -> bool | str | None:
    cell = cell.strip()
    return BOOLEANS.get(cell.lower(), cell) if cell else None


_READERS: dict[str, Any] = {"numeric": _read_number, "boolean": _read_boolean}
