"""How much a message may hold, counted on the wire: parsed, an empty message of two bytes takes a hundred."""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn

from models.errors import Fault
from service.errors import InvalidRequest

UNCOUNTED_BYTES = 64 * 1024
"""Shorter messages are not counted: whatever they hold, it takes a few MiB."""
MOST_MESSAGES = 65_536
"""Messages within a message: tensors, parameters and their values."""
MOST_FIELDS = 262_144
"""Fields of a message and of those within it. The elements of a list of numbers are one; each string is one."""
_GROUP_BEGINS, _GROUP_ENDS = 3, 4


class Malformed(Exception):
    """What is no message, or breaks off."""


def check_counts(descriptor: Any, body: bytes) -> None:
    """Refuses a message that holds too much.

    Args:
        descriptor: of the message's class.

    Raises:
        InvalidRequest: naming the bound.
        Malformed: where the message cannot be parsed either.
    """
    if len(body) <= UNCOUNTED_BYTES:
        return
    try:
        _Count().walk(body, 0, len(body), _inner(descriptor))
    except IndexError:
        raise Malformed from None


@cache
def _inner(descriptor: Any) -> dict[int, Any]:
    """What is within the fields that are messages, by their numbers. No message of the protocol is within itself."""
    return {field.number: _inner(field.message_type) for field in descriptor.fields if field.message_type is not None}


class _Count:
    """What has been counted so far."""

    __slots__ = ("_fields_left", "_messages_left")

    def __init__(self) -> None:
        self._fields_left, self._messages_left = MOST_FIELDS, MOST_MESSAGES

    def walk(self, body: bytes, at: int, end: int, inner: dict[int, Any]) -> None:
        """Counts what is between two places, which is a message. Bytes and packed lists are passed over."""
        groups, left = 0, self._fields_left
        while at < end:
            left -= 1
            if left < 0:
                _refuse(f"at most {MOST_FIELDS:,} fields; tensors of more strings go into raw_input_contents")
            # Most numbers are of one byte: a call for each would be half of what this takes.
            tag = body[at]
            at += 1
            if tag >= 0x80:
                tag, at = _number(body, at - 1)
            form = tag & 7
            if form == 2:
                length = body[at]
                at += 1
                if length >= 0x80:
                    length, at = _number(body, at - 1)
                after = at + length
                if after > end:
                    raise Malformed
                # What is in a group is unknown, whatever its number: no message of the protocol has any.
                if tag >> 3 in inner and not groups:
                    self._messages_left -= 1
                    if self._messages_left < 0:
                        _refuse(f"at most {MOST_MESSAGES:,} messages within the message")
                    self._fields_left = left
                    self.walk(body, at, after, inner[tag >> 3])
                    left = self._fields_left
                at = after
            elif form == 0:
                _, at = _number(body, at)
            elif form == 5:
                at += 4
            elif form == 1:
                at += 8
            elif form == _GROUP_BEGINS:
                groups += 1
            elif form == _GROUP_ENDS:
                groups -= 1
            else:
                raise Malformed
        self._fields_left = left
        if at != end:
            raise Malformed


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while (byte := body[at]) >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise Malformed
    return value | byte << shift, at + 1


def _refuse(expected: str) -> NoReturn:
    raise InvalidRequest([Fault("#", expected, "more")])
