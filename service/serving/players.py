"""Who plays in an explanation of a row of a version: its raw features, whatever columns encode them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.game import Background, Evaluate, Game
from explain.groups import correlation_tree
from explain.hierarchy import Hierarchy, balanced_tree
from explain.methods import Kind
from explain.players import FeaturePlayer, Player, Players, TokenPlayer, WindowPlayer
from explain.text import TextLayout, TextPlayers, Token, text_game, text_players
from explain.windows import window_players
from models.encoding.reading import Given, words_in
from models.encoding.words import words_of
from models.rows import ModelInput
from models.signature import PADDING, UNKNOWN_WORD, Feature, Signature

DEFAULT_PLAYERS = 64
"""About so many (window, channel) a series is cut into where no number of windows is asked for."""
MOST_CATEGORIES = 20
"""Categories whose presence is looked at when features that go together are found."""


def kind_of(signature: Signature) -> Kind:
    """What a version takes, as the methods know it."""
    if signature.kind == "columns":
        return "columns" if signature.is_continuous else "mixed"
    if signature.kind == "series":
        return "series" if signature.is_continuous else "gapped series"
    return signature.kind


def column_players(signature: Signature) -> Players:
    """One player per feature of columns, with all columns that encode it; without a hierarchy of their own."""
    elements = np.repeat(np.arange(len(signature.features)), [feature.width for feature in signature.features])
    described = tuple(
        FeaturePlayer(feature.name, tuple(range(place.start, place.stop)))
        for feature, place in zip(signature.features, signature.places, strict=True)
    )
    return Players(elements, described, Hierarchy.balanced(len(described)))


def series_players(feature: Feature, options: Mapping[str, Any]) -> Players:
    """One player per window of time and channel."""
    steps, channels = feature.shape
    n_windows = options.get("windows") or min(steps, max(1, DEFAULT_PLAYERS // channels))
    return window_players((steps, channels), n_windows=min(n_windows, steps), feature=feature.name)


def players_of_text(feature: Feature, row: ModelInput, given: Given, options: Mapping[str, Any]) -> TextPlayers:
    """One player per word, or run of words, of a row of codes.

    The words are those of the text as it was given; without it, what the codes tell of them.

    Raises:
        InvalidPlayers: when the text has no word.
    """
    layout = _layout(feature)
    text, tokenize = given.get(feature.name), _tokenizer(feature)
    if text is None:
        words = words_in(feature, row)
        text, tokenize = " ".join(words), _known(words, [int(code) for code in row if code != PADDING])
    spans = options.get("spans")
    return text_players(text, tokenize, layout, n_spans=spans, overlong="cut", feature=feature.name)


def game_of_text(
    feature: Feature, row: ModelInput, given: Given, options: Mapping[str, Any], evaluate: Evaluate
) -> tuple[Game, Players]:
    """A text against the text of no words, its words hidden as the options say."""
    players = players_of_text(feature, row, given, options)
    game = text_game(players, evaluate, _layout(feature), options.get("masking", "drop"), dtype=np.float32)
    return game, players.players


def association_hierarchy(signature: Signature, background: Background) -> Hierarchy:
    """Features that go together over the background: numbers and dates by their values, categories by each of the
    frequent ones, all by where they are missing, texts by how long they are."""
    columns: list[NDArray[np.float64]] = []
    owners: list[int] = []
    for player, (feature, place) in enumerate(zip(signature.features, signature.places, strict=True)):
        theirs = _indicative(feature, background.rows[:, place].astype(np.float64))
        columns += theirs
        owners += [player] * len(theirs)
    if len(signature.features) < 2:
        return Hierarchy(balanced_tree(range(len(signature.features))))
    return Hierarchy(correlation_tree(np.column_stack(columns), np.array(owners), background.weights))


def identities(players: Players) -> list[dict[str, Any]]:
    """How an answer names each player: its part of the document without value and attribution."""
    return [_identity(player) for player in players.described]


def _identity(player: Player) -> dict[str, Any]:
    match player:
        case WindowPlayer(feature, channel, window):
            return {"feature": feature, "channel": channel, "window": list(window)}
        case TokenPlayer(feature, token, span):
            return {"feature": feature, "token": token, "span": list(span)}
        case _:
            return {"feature": player.feature}


def _indicative(feature: Feature, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    if feature.kind == "text":
        return [(values != PADDING).sum(axis=1).astype(np.float64)]
    column = values[:, 0]
    missing = np.isnan(column)
    absent = [missing.astype(np.float64)] if missing.any() else []
    if feature.kind != "categorical":
        middle = float(np.median(column[~missing])) if not missing.all() else 0.0
        return [np.where(missing, middle, column), *absent]
    codes, counts = np.unique(column[~missing], return_counts=True)
    frequent = codes[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]
    return [(column == code).astype(np.float64) for code in frequent] + absent or [np.zeros(len(column))]


def _layout(feature: Feature) -> TextLayout:
    return TextLayout(feature.shape[0], padding_id=PADDING, mask_id=UNKNOWN_WORD)


def _tokenizer(feature: Feature) -> Callable[[str], Sequence[Token]]:
    codes = feature.codes
    return lambda text: [
        Token(word.text, word.span, codes.get(word.text.lower(), UNKNOWN_WORD)) for word in words_of(text)
    ]


def _known(words: Sequence[str], codes: Sequence[int]) -> Callable[[str], Sequence[Token]]:
    """The tokens of words that are joined by spaces."""
    tokens, start = [], 0
    for word, code in zip(words, codes, strict=True):
        tokens.append(Token(word, (start, start + len(word)), code))
        start += len(word) + 1
    return lambda _: tokens
