"""Delimited text (CSV, TSV): encoding, delimiter and header found out, and every line that does not fit refused."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from models.errors import Fault, UnreadableData
from models.rows import describe
from models.sources.cells import NUMBER
from models.sources.limits import MAX_CELL_CHARACTERS

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
SNIFFED_BYTES = 256 * 1024
MAX_COLUMNS = 10_000
_BLOCK_BYTES = 4 * 2**20
_OTHER_ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_LINES = "the first line names the columns, and each other one is a row"
_CURE = "Save it as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE"


@dataclass(frozen=True, slots=True)
class DelimitedFile:
    """A text file whose encoding and header have been checked.

    `renamed` has the columns whose name was empty, as an index that pandas has written, with the names they got.
    """

    path: Path
    delimiter: str
    byte_order_mark: bool
    names: tuple[str, ...]
    renamed: tuple[str, ...]

    def batches(self) -> Iterator[Any]:
        """The rows as Arrow record batches in which every column is a string.

        Raises:
            UnreadableData: at a line with more or fewer fields than the header has.
        """
        ragged: list[Any] = []

        def refuse(row: Any) -> str:
            ragged.append(row)
            return "error"

        try:
            reader = arrow_csv.open_csv(
                self.path,
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=_BLOCK_BYTES, skip_rows=0, column_names=list(self.names),
                    skip_rows_after_names=1,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=refuse
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.names, pa.string()), strings_can_be_null=False
                ),
            )  # fmt: skip
            yield from reader
        except pa.ArrowInvalid as error:
            raise self._explained(error, ragged) from None

    def _explained(self, error: pa.ArrowInvalid, ragged: list[Any]) -> UnreadableData:
        if ragged:
            row = ragged[0]
            line = _line_of_row(self.path, self.delimiter, len(self.names))
            where = f"line {line}" if line else f"the line {describe(row.text)}"
            return UnreadableData(
                [
                    Fault(
                        "#/file",
                        f"{row.expected_columns} fields in every line, as in the header",
                        f"{row.actual_columns} fields in {where}",
                        f"a field that holds a {DELIMITERS[self.delimiter]}, a quote or a line break must be put into "
                        'double quotes, with quotes within it doubled: "a ""b"", c"',
                    )
                ]
            )
        return UnreadableData([Fault("#/file", "delimited text", str(error)[:300])])


def open_delimited(path: Path) -> DelimitedFile:
    """Finds out how a text file is written, and reads its header.

    Raises:
        UnreadableData: naming the byte that is no UTF-8, or what is wrong with the header.
    """
    _check_encoding(path)
    with path.open("rb") as file:
        beginning = file.read(SNIFFED_BYTES)
    marked = beginning.startswith(codecs.BOM_UTF8)
    text = codecs.getincrementaldecoder("utf-8-sig")().decode(beginning)
    if not text.strip():
        raise _refused("a header with the names of the columns, and rows", "an empty file", _LINES)
    delimiter = sniff_delimiter(text, whole=len(beginning) < SNIFFED_BYTES)
    header = next(_records(text, delimiter))
    names, renamed = _names_of(header, delimiter)
    if len(beginning) < SNIFFED_BYTES and len(list(_records(text, delimiter))) == 1:
        raise _refused("rows below the header", "a header alone", _LINES)
    return DelimitedFile(path, delimiter, marked, names, renamed)


def sniff_delimiter(text: str, *, whole: bool) -> str:
    """The delimiter that cuts the first lines into the same number of fields, at least two; of those the most fields.

    Args:
        whole: whether `text` is the whole file; else its last record may be cut off.
    """
    scores = {}
    for delimiter in DELIMITERS:
        widths = [len(record) for record in _first_records(text, delimiter, whole=whole)]
        header = widths[0] if widths else 0
        agreeing = sum(width == header for width in widths) / max(1, len(widths))
        scores[delimiter] = (header > 1, round(agreeing, 1), header)
    return max(scores, key=lambda delimiter: scores[delimiter])


def _first_records(text: str, delimiter: str, *, whole: bool) -> list[list[str]]:
    records = []
    for record in _records(text, delimiter):
        records.append(record)
        if len(records) > 200:
            return records[:-1]
    return records if whole or len(records) < 2 else records[:-1]


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        yield from (record for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if record)
    except csv.Error as error:
        cure = "look for a double quote that opens and is never closed, or send it as Parquet"
        raise _refused("delimited text", f"text that cannot be cut into fields ({error})", cure) from None


def _names_of(header: list[str], delimiter: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    import re

    names = [name.strip() for name in header]
    if len(names) > MAX_COLUMNS:
        cure = "leave out those that nothing is learned from, or send many alike as one series (NPZ)"
        raise _refused(f"at most {MAX_COLUMNS:,} columns", f"{len(names):,} columns", cure)
    if len(names) == 1:
        known = ", ".join(DELIMITERS.values())
        raise _refused(
            f"at least two columns, separated by one of: {known}",
            f"one column, {describe(names[0])}",
            "a table needs a target and a feature; give the file one of these delimiters",
        )
    if all(re.match(NUMBER, name) for name in names):
        raise _refused(
            "a first line with the names of the columns",
            f"numbers: {describe(delimiter.join(header))}",
            "put a line with a name for each column before the rows",
        )
    renamed = tuple(f"column_{i + 1}" for i, name in enumerate(names) if not name)
    names = [name or f"column_{i + 1}" for i, name in enumerate(names)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise _refused(
            "a different name for each column",
            ", ".join(f"{name!r} {Counter(names)[name]} times" for name in twice[:5]),
            "rename or remove the columns that have the same name",
        )
    return tuple(names), renamed


def _check_encoding(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, lines = 0, 1
    with path.open("rb") as file:
        while block := file.read(2**20):
            if position == 0 and (name := _OTHER_ENCODINGS.get(block[:2])):
                raise _refused("text in UTF-8", f"text in {name}", "save it as UTF-8")
            if (zero := block.find(0)) >= 0:
                cure = "save it in one of these formats"
                raise _refused(
                    "text, Parquet, NPZ or a ZIP of images", f"a zero byte at byte {position + zero}: no text", cure
                )
            pending = decoder.getstate()[0]
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                at = position - len(pending) + error.start
                line = lines + (pending + block)[: error.start].count(b"\n")
                byte = (pending + block)[error.start]
                raise _refused(
                    "text in UTF-8", f"the byte 0x{byte:02X} at byte {at} (line {line}), which is no UTF-8", _CURE
                ) from None
            position += len(block)
            lines += block.count(b"\n")
        if cut_off := decoder.getstate()[0]:
            raise _refused("text in UTF-8", f"a character cut off at byte {position - len(cut_off)}", _CURE)


def _line_of_row(path: Path, delimiter: str, width: int) -> int | None:
    """The line of the first record that is not `width` wide: looked for only when there is one."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        begins = 1
        try:
            for record in reader:
                if record and len(record) != width:
                    return begins
                begins = reader.line_num + 1
        except csv.Error:
            return None
    return None


def _refused(expected: str, received: str, cure: str = "") -> UnreadableData:
    return UnreadableData([Fault("#/file", expected, received, cure)])
