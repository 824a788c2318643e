"""Identifiers that sort by time: ULIDs."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from models.database import in_rfc_3339

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters at a time: every request has an id, and one by one they cost a tenth of a prediction.
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BYTES, _DRAWN_AT_ONCE = 10, 256
# Randomness is drawn for many at once: a call of the kernel costs more than all the rest. Lists are appended to and
# popped from by any thread.
_randomness: list[bytes] = []
os.register_at_fork(after_in_child=_randomness.clear)


def new_id() -> str:
    """A ULID: 48 bits of milliseconds since 1970 and 80 random bits, 26 characters of Crockford's base 32."""
    try:
        random = _randomness.pop()
    except IndexError:
        drawn = os.urandom(_RANDOM_BYTES * _DRAWN_AT_ONCE)
        _randomness.extend(drawn[i : i + _RANDOM_BYTES] for i in range(_RANDOM_BYTES, len(drawn), _RANDOM_BYTES))
        random = drawn[:_RANDOM_BYTES]
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(random, "big")
    high, low = number >> 60, number & (1 << 60) - 1
    return (
        f"{_PAIRS[high >> 60]}{_PAIRS[high >> 50 & 1023]}{_PAIRS[high >> 40 & 1023]}{_PAIRS[high >> 30 & 1023]}"
        f"{_PAIRS[high >> 20 & 1023]}{_PAIRS[high >> 10 & 1023]}{_PAIRS[high & 1023]}{_PAIRS[low >> 50]}"
        f"{_PAIRS[low >> 40 & 1023]}{_PAIRS[low >> 30 & 1023]}{_PAIRS[low >> 20 & 1023]}{_PAIRS[low >> 10 & 1023]}"
        f"{_PAIRS[low & 1023]}"
    )


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
    return "".join([_ALPHABET[milliseconds >> shift & 31] for shift in range(45, -1, -5)]) + "0" * 16
