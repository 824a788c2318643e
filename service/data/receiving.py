"""A multipart upload, written to the disk as it arrives: never held in memory, hashed on the way, bounded in size."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from models.errors import Fault
from service.errors import BodyTooSlow, DiskTooSmall, InvalidRequest, NotReadable, UploadTooLarge, WrongContentType

MULTIPART = "multipart/form-data"
FILE = "file"
MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 20
_WRITE_BYTES = 2**20
"""Bytes that are parsed, hashed and written at once, in a thread."""
_FRAME_BYTES = 64 * 1024
"""What headers and boundaries may add to the size of a file."""


@dataclass(frozen=True, slots=True)
class Received:
    """A whole upload: its file's own name, size and SHA-256, and the other fields of the form."""

    name: str
    bytes: int
    sha256: str
    fields: dict[str, str]


async def receive_file(
    request: Request,
    path: Path,
    *,
    limit_bytes: int,
    idle_seconds: float,
    known_fields: tuple[str, ...],
    max_field_bytes: int = MAX_FIELD_BYTES,
    variable: str = "VITRINE_DATASET_LIMIT_BYTES",
) -> Received:
    """Writes the part `file` of a multipart body to `path`.

    Args:
        idle_seconds: how long the next bytes may let wait for themselves.
        known_fields: the other parts that the form may have, each of at most `max_field_bytes`.
        variable: the setting that bounds the file.

    Raises:
        WrongContentType, NotReadable, InvalidRequest, UploadTooLarge, BodyTooSlow, DiskTooSmall: as their messages say.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != MULTIPART.encode() or not (boundary := options.get(b"boundary")):
        raise WrongContentType(request.headers.get("content-type", ""), [f'{MULTIPART} with the file as "{FILE}"'])
    _check_announced(request, path, limit_bytes, len(known_fields) * max_field_bytes, variable)
    form = _Form(path, limit_bytes, known_fields, max_field_bytes, variable)
    parser = MultipartParser(boundary, form.callbacks())
    waiting = bytearray()
    try:
        stream = request.stream().__aiter__()
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise BodyTooSlow(idle_seconds) from None
            if chunk:
                waiting += chunk
            if waiting and (chunk is None or len(waiting) >= _WRITE_BYTES):
                await asyncio.to_thread(_parse, parser, bytes(waiting))
                waiting.clear()
            if chunk is None:
                break
        await asyncio.to_thread(_finish, parser, form)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskTooSmall(form.bytes, shutil.disk_usage(path.parent).free) from error
    finally:
        form.close()
    return form.received()


def _check_announced(request: Request, path: Path, limit_bytes: int, fields_bytes: int, variable: str) -> None:
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal():
        return
    if int(announced) > limit_bytes + fields_bytes + _FRAME_BYTES:
        raise UploadTooLarge(limit_bytes, variable)
    if int(announced) > (free := shutil.disk_usage(path.parent).free):
        raise DiskTooSmall(int(announced), free)


def _parse(parser: MultipartParser, data: bytes) -> None:
    try:
        parser.write(data)
    except MultipartParseError as error:
        raise NotReadable(f"The body is not {MULTIPART}: {error}.") from None


def _finish(parser: MultipartParser, form: _Form) -> None:
    try:
        parser.finalize()
    except MultipartParseError as error:
        raise NotReadable(f"The body is not {MULTIPART}: {error}.") from None
    if not form.ended:
        raise NotReadable(f"The body is not {MULTIPART}: its last boundary is missing.")


@dataclass
class _Form:
    """What the parser tells while it reads."""

    path: Path
    limit_bytes: int
    known_fields: tuple[str, ...]
    max_field_bytes: int
    variable: str
    bytes: int = 0
    ended: bool = False
    _sha256: Any = field(default_factory=hashlib.sha256)
    _file: IO[bytes] | None = None
    _name: str | None = None
    _fields: dict[str, bytearray] = field(default_factory=dict)
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    _disposition: bytes = b""
    _part: str = ""
    _parts: int = 0

    def callbacks(self) -> Any:
        def gather(index: int) -> Callable[[bytes, int, int], None]:
            def add(data: bytes, start: int, end: int) -> None:
                self._header[index].extend(data[start:end])

            return add

        return {
            "on_part_begin": self._begin,
            "on_header_field": gather(0),
            "on_header_value": gather(1),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = b""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise NotReadable(f"The form has more than {MAX_PARTS} parts.")

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        name.clear()
        value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part == FILE:
            if self._file is not None:
                raise InvalidRequest([Fault(f"#/{FILE}", "one file", "several", "send them one by one")])
            # Only a word for people: no path is ever made of it.
            self._name = options.get(b"filename", b"data").decode("utf-8", "replace")[:255]
            self._file = self.path.open("xb")
        elif self._part in self.known_fields:
            self._fields[self._part] = bytearray()
        else:
            expected = "one of " + ", ".join((FILE, *self.known_fields))
            raise InvalidRequest([Fault(f"#/{self._part[:100]}", expected, "an unknown part of the form")])

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._part != FILE:
            value = self._fields[self._part]
            value += data[start:end]
            if len(value) > self.max_field_bytes:
                raise InvalidRequest([Fault(f"#/{self._part}", f"at most {self.max_field_bytes:,} bytes", "more")])
            return
        assert self._file is not None  # opened at the end of the part's headers
        self.bytes += end - start
        if self.bytes > self.limit_bytes:
            raise UploadTooLarge(self.limit_bytes, self.variable)
        piece = data[start:end]
        self._sha256.update(piece)
        self._file.write(piece)

    def _end(self) -> None:
        self.ended = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def received(self) -> Received:
        if self._file is None:
            raise InvalidRequest([Fault(f"#/{FILE}", "a file", "nothing", "this part of the form is required")])
        if self.bytes == 0:
            cure = "send CSV, Parquet, NPZ or a ZIP of images"
            raise InvalidRequest([Fault(f"#/{FILE}", "a file with rows", "an empty file", cure)])
        try:
            fields = {name: value.decode() for name, value in self._fields.items()}
        except UnicodeDecodeError:
            raise NotReadable("A field of the form is not text in UTF-8.") from None
        return Received(self._name or "data", self.bytes, self._sha256.hexdigest(), fields)
