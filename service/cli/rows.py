"""Rows in files: a JSON array, one JSON object, JSON lines, or CSV with a header."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from service.cli.connection import MISUSED, fail, read_text

# What JSON calls a number. Neither 007 (a code) nor 1_000 nor NaN is one.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def read_rows(source: str) -> list[Any]:
    """The rows in a file, or in standard input for `-`; when there are none, why and exit 2."""
    try:
        rows = parse_rows(read_text(source))
    except ValueError as error:
        fail(f"{'standard input' if source == '-' else source} holds no rows: {error}", code=MISUSED)
    return rows


def parse_rows(text: str) -> list[Any]:
    """The rows in a text. What begins with `[` or `{` is JSON, else it is CSV.

    An object with `inputs` is taken for a request body, and its inputs for the rows.

    Raises:
        ValueError: saying what is wrong with it.
    """
    begin = text.lstrip("\ufeff \t\r\n")[:1]
    if not begin:
        raise ValueError("it is empty")
    if begin not in "[{":
        return list(_csv_rows(text.removeprefix("\ufeff")))
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if error.msg != "Extra data" or len(lines) < 2:
            raise ValueError(f"{error.msg}, line {error.lineno}, column {error.colno}") from None
        return [_json_line(number, line) for number, line in enumerate(lines, start=1)]
    if isinstance(document, dict):
        document = document["inputs"] if isinstance(document.get("inputs"), list) else [document]
    if not document:
        raise ValueError("the list is empty")
    if not all(isinstance(row, list | dict) for row in document):
        raise ValueError("expected a list of rows, each a list or an object. Put [ ] around a single row")
    return document


def _json_line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} of these JSON lines: {error.msg}, column {error.colno}") from None


def _csv_rows(text: str) -> Iterator[dict[str, Any]]:
    lines = csv.reader(io.StringIO(text))
    header = [name.strip() for name in next(lines)]
    if len(header) != len(set(header)):
        raise ValueError(f"the header names a column twice: {', '.join(header)}")
    found = False
    for cells in lines:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(f"line {lines.line_num} has {len(cells)} cells, and the header {len(header)}")
        found = True
        yield {name: _cell(cell.strip()) for name, cell in zip(header, cells, strict=True)}
    if not found:
        raise ValueError("expected a header and rows below it")


def _cell(text: str) -> float | str | None:
    if text == "":
        return None
    if not _NUMBER.fullmatch(text):
        return text
    return json.loads(text)
