"""Makes wrong requests of right ones, from seeds: bytes that are changed, cut and joined, JSON with other values."""

from __future__ import annotations

import copy
import gzip
import io
import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from service.routes.v2.binary import DATATYPES, STORED

HEADER = "Inference-Header-Content-Length"
_BYTES = (
    b"", b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\x80\0\0\0",
    b"\xff" * 8, b"9" * 30, b"-1", b"1e999", b"NaN", b"[" * 50, b'{"a":' * 20, b"\xff\xda", b"IDAT", b"\n", b'"', b",",
)  # fmt: skip
_VALUES = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 1e300, 1e-300, 0.5, "", "x", "1", "\0", "\ud7ff", "x" * 1000,
    [], {}, [[]], [None], [[[[1]]]], [1] * 100, {"": ""}, {"b64": ""}, {"b64": "AAAA"}, [2**40, 2**40], [0, 2**62],
    [-1], "BYTES", "BOOL", "FP16", "BF16", "FP64", "INT8", "UINT64",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A request for rows in any form: where to, its content type, and what is beside its body."""

    path: str
    content_type: str
    body: bytes
    header: str | None = None
    encoding: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        named = {"Content-Type": self.content_type, HEADER: self.header, "Content-Encoding": self.encoding}
        return {name: value for name, value in named.items() if value is not None}


def mutated_bytes(rng: np.random.Generator, body: bytes) -> bytes:
    """A body with up to five changes."""
    changed = bytearray(body)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(changed) + 1))
        match int(rng.integers(6)):
            case 0 if changed:
                changed[place % len(changed)] ^= 1 << int(rng.integers(8))
            case 1:
                del changed[place : place + int(rng.integers(1, 40))]
            case 2:
                odd = _BYTES[rng.integers(len(_BYTES))]
                changed[place : place + len(odd)] = odd
            case 3:
                changed[place:place] = _BYTES[rng.integers(len(_BYTES))]
            case 4:
                start = int(rng.integers(len(changed) + 1))
                changed[place:place] = changed[start : start + int(rng.integers(1, 200))]
            case _ if rng.random() < 0.3:
                del changed[place:]
    return bytes(changed)


def mutated_json(rng: np.random.Generator, document: Any) -> Any:
    """A document with up to three values that are others, gone, or there twice."""
    changed = copy.deepcopy(document)
    for _ in range(rng.integers(1, 4)):
        holder, key = _a_place(rng, changed)
        if holder is None:
            return _VALUES[rng.integers(len(_VALUES))]
        match int(rng.integers(4)):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 1:
                holder[str(key) + "x"] = holder[key]
            case _:
                holder[key] = copy.deepcopy(_VALUES[rng.integers(len(_VALUES))])
    return changed


def _a_place(rng: np.random.Generator, document: Any) -> tuple[Any, Any]:
    """A container somewhere in a document and a key of it; None where it has none."""
    holder, key, value = None, None, document
    while isinstance(value, dict | list) and value and (holder is None or rng.random() < 0.7):
        holder = value
        key = list(value)[rng.integers(len(value))] if isinstance(value, dict) else int(rng.integers(len(value)))
        value = holder[key]
    return holder, key


def mutated(rng: np.random.Generator, request: Request, document: Any | None = None) -> Request:
    """A request that is wrong in its bytes, or in its values where it is JSON."""
    body, header, encoding = request.body, request.header, request.encoding
    if document is not None and rng.random() < 0.7:
        text = json.dumps(mutated_json(rng, document)).encode()
        if header is None:
            body = text
        else:
            body, header = text + body[int(header) :], str(len(text))
    else:
        body = mutated_bytes(rng, body)
    if header is not None and rng.random() < 0.2:
        header = ("0", "-1", "9" * 30, str(len(body)), str(rng.integers(len(body) + 2)), "x")[rng.integers(6)]
    if rng.random() < 0.1:
        encoding = ("gzip", "deflate")[rng.integers(2)]
        packed = gzip.compress(body, 1) if encoding == "gzip" else zlib.compress(body, 1)
        body = mutated_bytes(rng, packed) if rng.random() < 0.5 else packed
    return Request(request.path, request.content_type, body, header, encoding)


def binary_request(path: str, tensors: list[tuple[str, str, np.ndarray]]) -> tuple[Request, Any]:
    """A V2 request with tensors (name, datatype, array) behind its JSON, and the document."""
    raw = [array.astype(STORED[datatype]).tobytes() for _, datatype, array in tensors]
    inputs = [
        {"name": name, "datatype": kind, "shape": list(array.shape), "parameters": {"binary_data_size": len(data)}}
        for (name, kind, array), data in zip(tensors, raw, strict=True)
    ]
    document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    text = json.dumps(document).encode()
    return Request(path, "application/octet-stream", text + b"".join(raw), str(len(text))), document


def string_tensor(strings: list[str]) -> bytes:
    return b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in strings)


def numbers_of_every_kind(rng: np.random.Generator, rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Rows in each datatype of numbers."""
    kinds = [name for name in DATATYPES if name not in ("BYTES", "BOOL", "BF16")]
    return [(kind, rng.permutation(np.clip(rows, 0, 100)).astype(STORED[kind])) for kind in kinds]


def npy_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def arrow_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def pictures(rng: np.random.Generator) -> list[bytes]:
    """PNG and JPEG of several modes, with and without EXIF."""
    found = []
    exif = Image.Exif()
    exif[0x112], exif[0x10E], exif[0x11A] = 6, "a description", 1.5
    for mode in ("L", "RGB", "RGBA", "P", "1"):
        image = Image.fromarray(rng.integers(256, size=(13, 20, 3), dtype=np.uint8)).convert(mode)
        ways: list[tuple[str, dict[str, Any]]] = [("PNG", {}), ("PNG", {"exif": exif})]
        if mode in ("L", "RGB"):
            ways += [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"exif": exif})]
        for kind, options in ways:
            file = io.BytesIO()
            image.save(file, kind, **options)
            found.append(file.getvalue())
    return found
