"""Identifiers that sort by time: ULIDs."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from models.database import in_rfc_3339

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# A random byte as a character: all 32 are as likely.
_CHARACTERS = bytes(ord(_ALPHABET[byte % 32]) for byte in range(256))
_RANDOM_CHARACTERS, _DRAWN_AT_ONCE = 16, 256
# Randomness is drawn for many at once: a call of the kernel costs more than all the rest. Lists are appended to and
# popped from by any thread.
_randomness: list[str] = []
os.register_at_fork(after_in_child=_randomness.clear)
_last = (0, "0" * 9)
"""The 32 milliseconds in which an id was last made, and their characters."""


def new_id() -> str:
    """A ULID: 48 bits of milliseconds since 1970 and 80 random bits, 26 characters of Crockford's base 32."""
    global _last
    span, text = _last
    now = time.time_ns() // 1_000_000
    if span != now >> 5:
        text = _in_characters(now)[:-1]
        _last = now >> 5, text
    text += _ALPHABET[now & 31]
    try:
        return text + _randomness.pop()
    except IndexError:
        drawn = os.urandom(_RANDOM_CHARACTERS * _DRAWN_AT_ONCE).translate(_CHARACTERS).decode()
        parts = [drawn[i : i + _RANDOM_CHARACTERS] for i in range(0, len(drawn), _RANDOM_CHARACTERS)]
        own = parts.pop()
        _randomness.extend(parts)
        return text + own


def _in_characters(milliseconds: int) -> str:
    return "".join([_ALPHABET[milliseconds >> shift & 31] for shift in range(45, -1, -5)])


def is_id(text: str) -> bool:
    """Whether this could be one of our identifiers."""
    return len(text) == 26 and all(character in _ALPHABET for character in text)


def created_at(identifier: str) -> str:
    """When an identifier was made, as RFC 3339 in UTC with milliseconds."""
    milliseconds = 0
    for character in identifier[:10]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(character)
    return in_rfc_3339(datetime.fromtimestamp(milliseconds / 1000, UTC))


def first_id_at(moment: datetime) -> str:
    """The least identifier that can be made at a moment: those made before are less."""
    milliseconds = int(moment.timestamp() * 1000)
    return _in_characters(milliseconds) + "0" * 16
