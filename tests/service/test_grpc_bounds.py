"""What a message may hold is counted before it is parsed, and nothing that protobuf reads is refused as no message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from service.errors import InvalidRequest, NotReadable
from service.rpc.bounds import MOST_FIELDS, MOST_MESSAGES, UNCOUNTED_BYTES, Malformed, check_counts
from service.rpc.messages import message_class, parsed

Request, Load = message_class("ModelInferRequest"), message_class("RepositoryModelLoadRequest")


def within(*tags: int, content: bytes) -> bytes:
    """Bytes as the content of fields within each other, the outermost first."""
    for tag in reversed(tags):
        content = bytes([tag]) + number(len(content)) + content
    return content


def number(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


class Unparsed:
    """In the place of a class of messages: parsing is not to be begun."""

    def __init__(self, kind: Any) -> None:
        self.DESCRIPTOR = kind.DESCRIPTOR

    def FromString(self, body: bytes) -> Any:  # noqa: N802
        raise AssertionError(f"{len(body)} bytes are parsed")


@pytest.mark.parametrize(
    ("kind", "body", "bound"),
    [
        (Request, b"\x2a\0" * 2**19, "65,536 messages"),
        (Request, b"\x22\0" * 2**19, "65,536 messages"),
        (Load, b"\x1a\0" * 2**19, "65,536 messages"),
        (Request, within(0x2A, content=b"\x22\0" * 2**19), "65,536 messages"),
        (Request, b"\x3a\0" * 2**19, "262,144 fields"),
        (Request, within(0x2A, 0x2A, content=b"\x42\0" * 2**19), "262,144 fields; tensors of more strings go into raw"),
        (Request, within(0x2A, 0x2A, content=b"\x10\x01" * 2**19), "262,144 fields"),
        (Request, b"\xaa\x80\0\0" * 2**18, "65,536 messages"),
        (Request, b"\x78\0" * 2**19, "262,144 fields"),
        (Request, b"\x7b\x7c" * 2**19, "262,144 fields"),
    ],
    ids=["inputs", "parameters", "load", "of an input", "raw", "strings", "numbers", "long tags", "unknown", "groups"],
)
def test_a_message_of_very_many_parts_is_refused_before_it_is_parsed(kind: Any, body: bytes, bound: str) -> None:
    with pytest.raises(InvalidRequest, match=f"at most {bound}"):
        parsed(Unparsed(kind), body)


@pytest.mark.parametrize("break_off", [b"\x2a", b"\x2a\x05", b"\x09\0", b"\x0d", b"\x80" * 11, b"\x0f"])
def test_what_breaks_off_is_no_message_whatever_its_length(break_off: bytes) -> None:
    for before in (b"", within(0x3A, content=bytes(UNCOUNTED_BYTES))):
        with pytest.raises(NotReadable, match=r"no inference\.ModelInferRequest, or is cut off"):
            parsed(Request, before + break_off)


def test_large_tensors_are_few_fields() -> None:
    values = np.arange(500_000, dtype=np.float32)
    given = {"name": "x", "datatype": "FP32", "shape": [1000, 500]}
    typed = Request(inputs=[{**given, "contents": {"fp32_contents": values}}])
    raw = Request(inputs=[given], raw_input_contents=[values.tobytes()])

    for message in (typed, raw):
        assert message == parsed(Request, message.SerializeToString())


def test_as_many_as_are_allowed_are_read() -> None:
    tensors = b"\x2a\0" * MOST_MESSAGES
    strings = within(0x2A, 0x2A, content=b"\x42\0" * (MOST_FIELDS - 2))

    assert MOST_MESSAGES == len(parsed(Request, tensors).inputs)
    assert MOST_FIELDS - 2 == len(parsed(Request, strings).inputs[0].contents.bytes_contents)


def test_whatever_protobuf_reads_is_counted() -> None:
    rng = np.random.default_rng(20261121)
    tensor = {
        "name": "x",
        "datatype": "BYTES",
        "shape": [3, 2**40],
        "parameters": {"a": {"int64_param": -1}, "b": {"double_param": 0.5}, "c": {"string_param": "d"}},
        "contents": {"bytes_contents": [b"a", b"", b"bc"], "int64_contents": [1, -1], "fp64_contents": [0.1]},
    }
    unknown = b"\x7b\x2a\x02\xff\xff\x7c\x08\x01" + b"\x79" + bytes(8) + b"\x7d" + bytes(4) + b"\xfa\x01\x02ab"
    sound = Request(inputs=[tensor] * 20, outputs=[{"name": "y"}], id="i").SerializeToString() + unknown
    padding = within(0x3A, content=bytes(UNCOUNTED_BYTES))
    read = 0
    for _ in range(2000):
        body = bytearray(sound)
        for place in rng.integers(len(body), size=rng.integers(1, 4)):
            body[place] = rng.integers(256)
        message = bytes(body) + padding
        try:
            Request.FromString(message)
        except DecodeError:
            continue
        read += 1
        try:
            check_counts(Request.DESCRIPTOR, message)
        except Malformed:
            pytest.fail(f"protobuf reads {bytes(body)!r}")

    assert read > 100
