"""Players of a text: its tokens, or runs of its words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from explain.backgrounds import baseline
from explain.errors import InvalidPlayers
from explain.game import Evaluate, Game
from explain.hierarchy import Hierarchy, Tree, balanced_tree
from explain.players import Players, TokenPlayer

Masking = Literal["mask", "padding", "drop"]
Overlong = Literal["refuse", "cut"]

# A word of letters and digits goes on across a boundary of tokens; each ideograph or kana is a word of its own.
_WITHIN_WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# A stop before a space, a full-width stop, or a new line; quotes and brackets may close after a stop.
_SENTENCE_END = re.compile(r"([.!?\u2026]['\")\]\u201d\u2019]*\s+|[\u3002\uff01\uff1f][\u201d\u2019\u300d]*\s*|\n\s*)$")
_LONGEST_SENTENCE_END = 16


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the model reads it.

    Attributes:
        span: where it stands in the text: half-open, in code points.
        number: its id in the vocabulary.
    """

    text: str
    span: tuple[int, int]
    number: int


Tokenize = Callable[[str], Sequence[Token]]
"""The caller's own tokenizer, without special tokens and padding."""


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How the ids of a text lie in a row.

    Attributes:
        length: of a row: special tokens, tokens, then padding.
        padding_id: fills a row behind its text.
        mask_id: stands in place of a hidden token, where the vocabulary has one.
        before, after: ids of special tokens, [CLS] and [SEP], say. They are no players and always stay.
    """

    length: int
    padding_id: int = 0
    mask_id: int | None = None
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def room(self) -> int:
        """How many tokens of a text fit."""
        return self.length - len(self.before) - len(self.after)


@dataclass(frozen=True)
class TextPlayers:
    """A text as a model reads it, and its players.

    Attributes:
        row: `(length,)`, the ids.
        players: `players.elements` is of the row's shape. Special tokens and padding belong to nobody's share: they
            are counted with the first player, but never change.
        unread: the span of the text that did not fit and gets no attribution; None where all was read.
    """

    row: NDArray[np.int32]
    hideable: NDArray[np.bool_]
    players: Players
    unread: tuple[int, int] | None


def text_players(
    text: str,
    tokenize: Tokenize,
    layout: TextLayout,
    *,
    n_spans: int | None = None,
    overlong: Overlong = "refuse",
    feature: str = "text",
) -> TextPlayers:
    """One player per token; or, with `n_spans`, one per run of whole words, at most so many.

    The hierarchy halves the sentences, then the words of a sentence, then the tokens of a word.

    Args:
        overlong: what is done with a text of more tokens than fit. "refuse", or "cut": the model reads the first ones,
            as it does when it predicts, and the rest of the text is `unread`.

    Raises:
        InvalidPlayers: when the text holds no token, holds more than fit, when a token does not stand in the text, or
            `n_spans` is below one.
    """
    tokens = list(tokenize(text))
    _check_tokens(text, tokens)
    unread = None
    if len(tokens) > layout.room:
        if overlong == "refuse":
            raise InvalidPlayers(f"a text of at most {layout.room} tokens", f"{len(tokens)}")
        unread = (tokens[layout.room].span[0], tokens[-1].span[1])
        tokens = tokens[: layout.room]
    sentences, words = _boundaries(text, tokens)
    firsts = list(range(len(tokens))) if n_spans is None else _span_starts(sentences, words, n_spans)
    player_of_token = np.searchsorted(firsts, np.arange(len(tokens)), side="right") - 1
    start = len(layout.before)
    ids = [*layout.before, *(token.number for token in tokens), *layout.after]
    row = np.full(layout.length, layout.padding_id, dtype=np.int32)
    row[: len(ids)] = ids
    elements = np.zeros(layout.length, dtype=np.intp)
    elements[start : start + len(tokens)] = player_of_token
    hideable = np.zeros(layout.length, dtype=bool)
    hideable[start : start + len(tokens)] = True
    described = []
    for first, end in zip(firsts, [*firsts[1:], len(tokens)], strict=True):
        span = tokens[first].span[0], tokens[end - 1].span[1]
        described.append(TokenPlayer(feature, tokens[first].text if n_spans is None else text[slice(*span)], span))
    hierarchy = Hierarchy(_tree([(sentences[first], words[first]) for first in firsts]))
    return TextPlayers(row, hideable, Players(elements, tuple(described), hierarchy), unread)


def text_game(
    text: TextPlayers,
    evaluate: Evaluate,
    layout: TextLayout,
    masking: Masking = "mask",
    *,
    dtype: DTypeLike = np.int32,
) -> Game:
    """The game of a text whose hidden tokens are masked in a named way.

    - "mask": they become the mask token; the others keep their places.
    - "padding": they become padding, in place. A network that skips padding does not see them, but sees the gap.
    - "drop": they are left out and the others move up, as if they had never been written.

    The base value is the output for the text with every token hidden: `spread` is 0, so that S is |value - base value|.

    Args:
        dtype: of the ids in the rows that the model is given.

    Raises:
        InvalidPlayers: when masking is by a mask token and the vocabulary has none.
    """
    hidden = layout.mask_id if masking == "mask" else layout.padding_id
    if hidden is None:
        raise InvalidPlayers("a mask token in the vocabulary, or masking by padding or drop", "no mask token")
    if masking == "drop":
        evaluate = dropping(evaluate, layout.padding_id)
    row = text.row.astype(dtype)
    nothing = np.where(text.hideable, np.array(hidden, dtype), row)
    return Game(evaluate, row, baseline(nothing, evaluate), text.players.elements)


def dropping(evaluate: Evaluate, padding_id: int) -> Evaluate:
    """Evaluates rows of ids whose padding is first moved behind the tokens that are left."""

    def evaluate_moved_up(rows: NDArray[Any]) -> NDArray[Any]:
        order = np.argsort(rows == padding_id, axis=1, kind="stable")
        return evaluate(np.take_along_axis(rows, order, axis=1))

    return evaluate_moved_up


def _check_tokens(text: str, tokens: list[Token]) -> None:
    if not tokens:
        raise InvalidPlayers("a text of at least one token", repr(text[:40]))
    reached = 0
    for token in tokens:
        start, end = token.span
        if not reached <= start <= end <= len(text):
            expected = f"tokens in the order of a text of {len(text)} code points, none over another"
            raise InvalidPlayers(expected, f"{token.text!r} at {token.span}")
        reached = end


def _boundaries(text: str, tokens: list[Token]) -> tuple[list[int], list[int]]:
    """The sentence and the word that each token belongs to, counted from 0."""
    sentences, words = [0], [0]
    for before, token in itertools.pairwise(tokens):
        start = token.span[0]
        # Some tokenizers count the space before a word to its token.
        visible = start + len(text[slice(*token.span)]) - len(text[slice(*token.span)].lstrip())
        ends = _SENTENCE_END.search(text[max(visible - _LONGEST_SENTENCE_END, 0) : visible]) is not None
        glued = (
            before.span[1] == start
            and 0 < start < len(text)
            and _WITHIN_WORD.match(text[start - 1]) is not None
            and _WITHIN_WORD.match(text[start]) is not None
        )
        sentences.append(sentences[-1] + ends)
        words.append(words[-1] + (not glued))
    return sentences, words


def _span_starts(sentences: list[int], words: list[int], n_spans: int) -> list[int]:
    """The first tokens of at most `n_spans` runs of words, of whole sentences where there are more sentences.

    Else no run crosses a sentence: each sentence has one, and further ones go where words per run are most.
    """
    if n_spans < 1:
        raise InvalidPlayers("at least one span of words", f"{n_spans}")
    n_sentences = sentences[-1] + 1
    if n_spans <= n_sentences:
        return [sentences.index(span * n_sentences // n_spans) for span in range(n_spans)]
    first_words = [words[sentences.index(sentence)] for sentence in range(n_sentences)]
    n_words = np.diff([*first_words, words[-1] + 1])
    n_runs = np.ones(n_sentences, dtype=np.intp)
    for _ in range(min(n_spans, words[-1] + 1) - n_sentences):
        n_runs[np.argmax(np.where(n_runs < n_words, n_words / n_runs, 0))] += 1
    return [
        words.index(first + run * theirs // runs)
        for first, theirs, runs in zip(first_words, n_words.tolist(), n_runs.tolist(), strict=True)
        for run in range(runs)
    ]


def _tree(places: list[tuple[int, int]]) -> Tree:
    """Players by the sentence and word in which each begins."""
    sentences: dict[int, dict[int, list[Tree]]] = {}
    for player, (sentence, word) in enumerate(places):
        sentences.setdefault(sentence, {}).setdefault(word, []).append(player)
    return balanced_tree(
        [balanced_tree([balanced_tree(word) for word in words.values()]) for words in sentences.values()]
    )
