"""Texts as the codes of their words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from models.signature import PADDING, UNKNOWN_WORD, Feature

# Letters and digits, also around an apostrophe; each ideograph and kana is a word of its own.
_ALONE = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_LETTERS = rf"(?:(?!{_ALONE})[^\W_])+"
_WORD = re.compile(rf"{_ALONE}|{_LETTERS}(?:['\u2019]{_LETTERS})*")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is written, and where it stands: half-open, in code points."""

    text: str
    span: tuple[int, int]


def words_of(text: str) -> list[Word]:
    return [Word(match.group(), match.span()) for match in _WORD.finditer(text)]


def word_codes(text: str, feature: Feature) -> list[int]:
    """The codes of the words of a text that are read, without padding."""
    codes = feature.codes
    found = []
    for match in _WORD.finditer(text):
        if len(found) == feature.shape[0]:
            break
        found.append(codes.get(match.group().lower(), UNKNOWN_WORD))
    return found


def padded(codes: list[int], length: int) -> list[int]:
    return codes + [PADDING] * (length - len(codes))


def common_words(texts: Iterable[str], *, most: int, least_rows: int) -> tuple[str, ...]:
    """The words that stand in the most texts, at least in so many; those of as many texts in alphabetical order."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({match.group().lower() for match in _WORD.finditer(text)})
    frequent = [(word, count) for word, count in counts.items() if count >= least_rows]
    return tuple(word for word, _ in sorted(frequent, key=lambda item: (-item[1], item[0]))[:most])
