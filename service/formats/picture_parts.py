"""Counts the parts of an encoded image before it is decoded: each costs time, however few bytes it has.

A scan of a progressive JPEG is a pass over all of its pixels, and can be written in 60 bytes: a few MiB of them take
days. A segment of a JPEG and a chunk of a PNG are a turn of a loop in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

MAX_SCANS = 32
"""Encoders write 10 for colours, at most about 20."""
MAX_PARTS = 10_000
"""Encoders write chunks of 8 KiB or more: 2,000 of them in 16 MiB."""
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
JPEG_HEAD = b"\xff\xd8"
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd9-\xfe]")
"""All but what stands within the data of a scan: a stuffed byte, a restart, and filling."""


def excess_of_parts(data: bytes) -> str | None:
    """What an image has too many of, in words; None where it has not."""
    if data.startswith(PNG_HEAD):
        return f"a PNG of more than {MAX_PARTS:,} chunks" if _is_longer(_chunks(data), MAX_PARTS) else None
    if not data.startswith(JPEG_HEAD):
        return None
    if _is_longer((marker for marker in _segments(data) if marker == _SCAN), MAX_SCANS):
        return f"a JPEG of more than {MAX_SCANS} scans"
    return f"a JPEG of more than {MAX_PARTS:,} segments" if _is_longer(_segments(data), MAX_PARTS) else None


def _is_longer(parts: Iterator[int], limit: int) -> bool:
    return next(islice(parts, limit, None), None) is not None


def _chunks(data: bytes) -> Iterator[int]:
    """The length of each chunk of a PNG: four bytes of it, four of a name, the chunk, four of a checksum."""
    place = len(PNG_HEAD)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        yield length
        place += 12 + length


def _segments(data: bytes) -> Iterator[int]:
    """The marker of each segment of a JPEG, as libjpeg finds them: two bytes of length come behind it, and behind a
    scan its data, up to the next marker."""
    place = len(JPEG_HEAD)
    while (found := _MARKER.search(data, place)) and (marker := found[0][1]) != _END:
        yield marker
        place = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2]))
