"""Image, series and text players on Keras networks: attributions are those of brute force."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from explain.backgrounds import named_background
from explain.errors import InvalidPlayers
from explain.exact import exact
from explain.game import Background, Evaluate, Game
from explain.limits import Limits
from explain.players import TokenPlayer, share_over_pixels
from explain.regression import kernel
from explain.segments import segment_players
from explain.text import Masking, TextLayout, Token, text_game, text_players
from explain.windows import window_players

VOCABULARY = {
    "[PAD]": 0,
    "[MASK]": 1,
    "[CLS]": 2,
    "[SEP]": 3,
    "not": 4,
    "a": 5,
    "good": 6,
    "film": 7,
    "at": 8,
    "all": 9,
}
LAYOUT = TextLayout(length=10, padding_id=0, mask_id=1, before=(2,), after=(3,))
TEXT = "not a good film, at all"
LENGTH = 10


@pytest.fixture(scope="module", params=["pooling", "transformer", "recurrent"])
def text_network(request: pytest.FixtureRequest) -> Evaluate:
    """Reads ids, gives two outputs. The recurrent one skips padding."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    ids = keras.Input((LENGTH,), dtype="int32")
    skips = request.param == "recurrent"
    hidden = layers.Embedding(len(VOCABULARY) + 1, 8, mask_zero=skips, embeddings_initializer="random_normal")(ids)
    hidden = layers.Rescaling(20.0)(hidden)
    if request.param == "transformer":
        hidden = hidden + layers.Embedding(LENGTH, 8)(np.arange(LENGTH))
        attended = layers.MultiHeadAttention(2, 4)(hidden, hidden)
        hidden = layers.LayerNormalization()(hidden + attended)
        hidden = layers.LayerNormalization()(hidden + layers.Dense(8, activation="gelu")(hidden))
    hidden = layers.GRU(6)(hidden) if skips else layers.GlobalAveragePooling1D()(hidden)
    hidden = layers.Dense(6, activation="tanh")(hidden)
    return evaluate_with(keras.Model(ids, layers.Dense(2, activation="softmax")(hidden)))


@pytest.mark.parametrize("masking", ["mask", "padding", "drop"])
def test_attributions_of_tokens_are_those_of_brute_force(text_network: Evaluate, masking: Masking) -> None:
    text = text_players(TEXT, tokenize, LAYOUT)
    game = text_game(text, text_network, LAYOUT, masking)

    estimate = exact(game, slice_rows=64)

    def values(coalitions: list[Sequence[bool]]) -> np.ndarray:
        return text_network(np.stack([written(coalition, masking) for coalition in coalitions]))

    expected = brute_force(7, values)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(estimate.attributions, expected, rtol=0, atol=1e-5 * estimate.scales.max())
    assert [player.token for player in text.players.described if isinstance(player, TokenPlayer)] == [
        *("not", "a", "good", "film", ",", "at", "all")
    ]


def test_regression_over_all_pairs_of_tokens_is_exact(text_network: Evaluate) -> None:
    game = text_game(text_players(TEXT, tokenize, LAYOUT), text_network, LAYOUT)

    estimate = kernel(game, [0, 1], seed=0, limits=Limits(tolerance=1e-9), slice_rows=64)

    assert estimate.stop_reason == "exact"
    np.testing.assert_allclose(estimate.attributions, exact(game, slice_rows=64).attributions, atol=1e-6)


def test_runs_of_words_play_as_one(text_network: Evaluate) -> None:
    text = text_players(TEXT, tokenize, LAYOUT, n_spans=3)
    game = text_game(text, text_network, LAYOUT)
    spans = [[0, 1], [2, 3], [4, 5, 6]]

    estimate = exact(game, slice_rows=64)

    def values(coalitions: list[Sequence[bool]]) -> np.ndarray:
        tokens = [[there for there, theirs in zip(who, spans, strict=True) for _ in theirs] for who in coalitions]
        return text_network(np.stack([written(those, "mask") for those in tokens]))

    np.testing.assert_allclose(estimate.attributions, brute_force(3, values), rtol=0, atol=1e-5)


def test_padding_and_special_tokens_get_nothing(text_network: Evaluate) -> None:
    """They are counted with the first player, which gets what it gets in a row that is just long enough."""
    text = text_players("good film", tokenize, LAYOUT)
    game = text_game(text, text_network, LAYOUT)

    estimate = exact(game, slice_rows=64)

    assert game.background.rows[0].tolist() == [2, 1, 1, 3, 0, 0, 0, 0, 0, 0]
    assert estimate.attributions.shape == (2, 2)
    np.testing.assert_allclose(estimate.efficiency_residuals, 0, atol=1e-6)


def test_masking_needs_a_mask_token() -> None:
    layout = TextLayout(length=10)
    text = text_players("good film", tokenize, layout)

    with pytest.raises(InvalidPlayers, match="masking by padding or drop; received no mask token"):
        text_game(text, lambda rows: rows[:, :1], layout, "mask")


@pytest.fixture(scope="module")
def series_network() -> Evaluate:
    """A GRU that reads a digit row by row: 8 steps of 2 channels, its left and its right half."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    images, labels = digits()
    inputs = keras.Input((8, 2))
    hidden = layers.GRU(8)(layers.Rescaling(1 / 16)(inputs))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(hidden))
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(halves(images), labels, epochs=3, batch_size=32, verbose=0)
    return evaluate_with(model)


@pytest.mark.parametrize("name", ["sample", "mean", "zero"])
def test_attributions_of_windows_are_those_of_brute_force(series_network: Evaluate, name: Any) -> None:
    series = halves(digits()[0])
    sample = Background.of(series[:5], series_network, np.array([0.1, 0.3, 0.2, 0.15, 0.25]))
    row = series[100]
    players = window_players(row.shape, n_windows=3)
    references = named_background(name, row, sample, series_network)

    estimate = exact(Game(series_network, row, references, players.elements), slice_rows=128)

    places = [(window, channel) for window in [(0, 2), (2, 5), (5, 8)] for channel in (0, 1)]

    def values(coalitions: list[Sequence[bool]]) -> np.ndarray:
        rows = np.repeat(references.rows[np.newaxis], len(coalitions), axis=0)
        for mixed, coalition in zip(rows, coalitions, strict=True):
            for there, ((start, end), channel) in zip(coalition, places, strict=True):
                if there:
                    mixed[:, start:end, channel] = row[start:end, channel]
        outputs = series_network(rows.reshape(-1, 8, 2)).reshape(len(coalitions), len(references.rows), -1)
        return np.einsum("m,cmk->ck", references.weights, outputs)

    expected = brute_force(6, values)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(estimate.attributions, expected, rtol=0, atol=1e-5 * estimate.scales.max())


@pytest.mark.parametrize("name", ["sample", "mean", "blur"])
def test_attributions_of_segments_are_those_of_brute_force(name: Any) -> None:
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    images = digits()[0]
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(6, 3, activation="relu")(layers.Rescaling(1 / 4)(inputs))
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(hidden))
    network = evaluate_with(keras.Model(inputs, outputs))
    row = images[3]
    references = named_background(name, row, Background.of(images[10:14], network), network)
    players = segment_players(row, 6)

    estimate = exact(Game(network, row, references, players.elements), slice_rows=128)

    def values(coalitions: list[Sequence[bool]]) -> np.ndarray:
        shown = [np.isin(players.elements, np.flatnonzero(coalition)) for coalition in coalitions]
        rows = np.stack([np.where(mine, row, other) for mine in shown for other in references.rows])
        return network(rows).reshape(len(coalitions), len(references.rows), -1).mean(axis=1)

    np.testing.assert_allclose(estimate.attributions, brute_force(6, values), rtol=0, atol=1e-5 * estimate.scales.max())
    pixels = share_over_pixels(estimate.attributions, players.elements)
    np.testing.assert_allclose(pixels.sum(axis=(0, 1)), estimate.attributions.sum(axis=0), atol=1e-12)


def tokenize(text: str) -> list[Token]:
    """Words and signs; those it does not know are the last of the vocabulary."""
    found = re.finditer(r"\w+|[^\w\s]", text)
    return [Token(match.group(), match.span(), VOCABULARY.get(match.group(), len(VOCABULARY))) for match in found]


def written(coalition: Sequence[bool], masking: Masking) -> np.ndarray:
    """The ids of the text with only some of its tokens, put together by hand."""
    ids = [4, 5, 6, 7, 10, 8, 9]
    if masking == "drop":
        kept = [2, *(number for number, there in zip(ids, coalition, strict=True) if there), 3]
        return np.array(kept + [0] * (LENGTH - len(kept)), dtype=np.int32)
    hidden = {"mask": 1, "padding": 0}[masking]
    return np.array([2, *(n if there else hidden for n, there in zip(ids, coalition, strict=True)), 3, 0], np.int32)


def brute_force(n_players: int, values: Callable[[list[Sequence[bool]]], np.ndarray]) -> np.ndarray:
    """Shapley values by their definition, `(n_players, n_outputs)`: what each adds to each coalition, weighted.

    Args:
        values: of coalitions, `(n_coalitions, n_outputs)`.
    """
    coalitions: list[Sequence[bool]] = list(itertools.product([False, True], repeat=n_players))
    value_of = dict(zip(coalitions, values(coalitions).astype(np.float64), strict=True))
    shares = np.zeros((n_players, len(value_of[coalitions[0]])))
    for coalition in coalitions:
        for player in (player for player in range(n_players) if not coalition[player]):
            weight = 1 / (n_players * math.comb(n_players - 1, sum(coalition)))
            joined = (*coalition[:player], True, *coalition[player + 1 :])
            shares[player] += weight * (value_of[joined] - value_of[coalition])
    return shares


def evaluate_with(model: Any) -> Evaluate:
    return lambda rows: np.asarray(model(rows, training=False))


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return loaded.images[..., np.newaxis].astype(np.float32), loaded.target


def halves(images: np.ndarray) -> np.ndarray:
    """`(n, 8, 2)`: the mean of each half of each pixel row."""
    return images.reshape(-1, 8, 2, 4).mean(axis=3)
