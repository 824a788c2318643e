"""Who gets an attribution: pixels, segments, windows, tokens, feature groups; and what is refused."""

import re

import numpy as np
import pytest

from explain.errors import InvalidPlayers
from explain.game import Background, Game
from explain.groups import correlation_tree, group_players
from explain.hierarchy import Tree, leaves
from explain.players import (
    FeaturePlayer,
    PixelPlayer,
    Players,
    TokenPlayer,
    WindowPlayer,
    pixel_players,
    share_over_pixels,
)
from explain.segments import grid_players, image_pixels, segment_players
from explain.text import TextLayout, Token, text_players
from explain.windows import window_players

TEXT = 'Wonderful film! He said "no." Then she left.'
LAYOUT = TextLayout(length=24, padding_id=0, mask_id=1, before=(2,), after=(3,))


@pytest.fixture(scope="module")
def digit() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().images[0][..., np.newaxis].astype(np.float32)


# Images


@pytest.mark.parametrize("n_segments", [1, 2, 7, 16, 63, 64])
def test_a_small_image_has_as_many_segments_as_asked_for(digit: np.ndarray, n_segments: int) -> None:
    players = segment_players(digit, n_segments)

    assert players.elements.shape == (8, 8, 1)
    assert_well_made(players, n_segments)
    assert_connected(players.elements[..., 0])


@pytest.mark.parametrize("n_segments", [10, 150])
def test_a_photograph_has_as_many_segments_as_asked_for(n_segments: int) -> None:
    image = photograph()

    players = segment_players(image, n_segments)

    assert players.elements.shape == (224, 224, 3)
    assert_well_made(players, n_segments)
    assert_connected(players.elements[..., 0])
    # The channels of a pixel are of one segment.
    assert (players.elements == players.elements[..., :1]).all()


def test_segments_follow_the_colours() -> None:
    """Three areas of one colour each, one of them within another."""
    truth = np.zeros((60, 80), dtype=int)
    truth[:, 50:] = 1
    truth[10:30, 10:35] = 2
    image = np.array([[200, 30, 30], [30, 60, 220], [240, 240, 60]], dtype=np.float32)[truth]

    players = segment_players(image, 3)

    assert [len(np.unique(truth[players.elements[..., 0] == segment])) for segment in range(3)] == [1, 1, 1]


def test_segments_do_not_depend_on_the_units_of_the_image(digit: np.ndarray) -> None:
    expected = segment_players(digit, 9).elements

    np.testing.assert_array_equal(segment_players(digit * 16 - 128, 9).elements, expected)


def test_segments_are_the_same_each_time() -> None:
    image = photograph()

    first, second = segment_players(image, 40), segment_players(image, 40)

    np.testing.assert_array_equal(first.elements, second.elements)
    assert first.hierarchy == second.hierarchy


def test_alike_segments_are_together_longest() -> None:
    """Two dark halves and two bright halves of stripes: dark with dark, though all are as near."""
    image = np.repeat([0.0, 0.3, 0.7, 1.0], 4)[np.newaxis, :, np.newaxis] * np.ones((16, 16, 1))

    tree = segment_players(image.astype(np.float32), 4).hierarchy.tree

    assert isinstance(tree, tuple)
    assert sorted(sorted(leaves(half)) for half in tree) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (40, 50, 3)])
@pytest.mark.parametrize("n_segments", [1, 4, 7])
def test_an_image_of_one_colour_gets_a_regular_grid(shape: tuple[int, ...], n_segments: int) -> None:
    image = np.full(shape, 7.0, dtype=np.float32)

    players = segment_players(image, n_segments)

    np.testing.assert_array_equal(players.elements, grid_players(shape, n_segments).elements)
    assert_well_made(players, n_segments)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 3), (5, 7)])
def test_any_number_of_rectangles_fits_in_any_image(shape: tuple[int, int]) -> None:
    for n_segments in range(1, shape[0] * shape[1] + 1):
        assert_well_made(grid_players((*shape, 2), n_segments), n_segments)


def test_rectangles_of_a_grid_are_of_about_one_size() -> None:
    sizes = np.bincount(grid_players((224, 224, 1), 50).elements.reshape(-1))

    assert sizes.max() <= 2 * sizes.min()


@pytest.mark.parametrize("n_segments", [0, -1, 65])
@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_more_segments_than_pixels_are_refused(n_segments: int, colour: float) -> None:
    image = np.zeros((8, 8, 1), np.float32)
    image[2, 3] = colour

    with pytest.raises(InvalidPlayers, match=f"1 to 64 segments for 8 x 8 pixels; received {n_segments}"):
        segment_players(image, n_segments)


def test_pixels_halve_into_their_neighbours() -> None:
    players = image_pixels((4, 8, 3))

    np.testing.assert_array_equal(players.elements, pixel_players((4, 8, 3)))
    assert players.described[11] == PixelPlayer("image", row=1, column=3)
    assert_well_made(players, 32)
    left, _ = players.hierarchy.tree if isinstance(players.hierarchy.tree, tuple) else (None, None)
    assert left is not None
    assert sorted(leaves(left)) == [8 * row + column for row in range(4) for column in range(4)]


def test_the_share_of_a_segment_is_divided_over_its_pixels(digit: np.ndarray) -> None:
    players = segment_players(np.repeat(digit, 3, axis=2), 9)
    values = np.random.default_rng(0).normal(size=(9, 2))
    values[4, 1] = np.nan

    pixels = share_over_pixels(values, players.elements)

    assert pixels.shape == (8, 8, 2)
    for segment in range(9):
        mine = pixels[players.elements[..., 0] == segment]
        np.testing.assert_allclose(mine.sum(axis=0), values[segment], rtol=1e-14)
        assert len(np.unique(mine[:, 0])) == 1


# Series


def test_windows_of_a_length_cover_the_series() -> None:
    players = window_players((7, 2), length=3, channels=["pressure", "flow"])

    assert players.described == (
        WindowPlayer("series", "pressure", (0, 3)),
        WindowPlayer("series", "flow", (0, 3)),
        WindowPlayer("series", "pressure", (3, 6)),
        WindowPlayer("series", "flow", (3, 6)),
        WindowPlayer("series", "pressure", (6, 7)),
        WindowPlayer("series", "flow", (6, 7)),
    )
    for number, player in enumerate(players.described):
        steps = np.flatnonzero((players.elements == number).any(axis=1))
        assert isinstance(player, WindowPlayer)
        assert (steps[0], steps[-1] + 1) == player.window
    assert players.hierarchy.tree == (((0, 1), (2, 3)), (4, 5))


@pytest.mark.parametrize("n_windows", range(1, 14))
def test_a_number_of_windows_are_as_even_as_can_be(n_windows: int) -> None:
    players = window_players((13, 1), n_windows=n_windows)

    lengths = np.bincount(players.elements[:, 0])
    assert len(lengths) == n_windows
    assert lengths.max() - lengths.min() <= 1
    assert_well_made(players, n_windows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 9}, "windows of 1 to 8 steps for a series of 8 steps; received 9"),
        ({"length": 0}, "windows of 1 to 8 steps"),
        ({"n_windows": 9}, "1 to 8 windows for a series of 8 steps; received 9"),
        ({}, "a length of windows or a number of them; received neither"),
        ({"length": 2, "n_windows": 2}, "received both"),
        ({"length": 2, "channels": ["one"]}, "expected 2 names of channels; received 1"),
    ],
)
def test_windows_that_the_series_does_not_have_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InvalidPlayers, match=words):
        window_players((8, 2), **options)


# Text


def test_tokens_are_players_with_their_places_in_the_text() -> None:
    text = text_players(TEXT, pieces, LAYOUT)

    assert text.row.tolist() == [2, *(token.number for token in pieces(TEXT)), 3, *[0] * 7]
    assert text.unread is None
    assert_well_made(text.players, len(pieces(TEXT)))
    for player in text.players.described:
        assert isinstance(player, TokenPlayer)
        assert TEXT[slice(*player.span)] == player.token
    # Every token's place is its own player's, and only tokens can be hidden.
    np.testing.assert_array_equal(text.players.elements[text.hideable], np.arange(len(pieces(TEXT))))


def test_spans_are_in_code_points() -> None:
    text = text_players("👩‍🚀 naïve café 好吃", pieces, LAYOUT)

    assert [player.token for player in text.players.described if isinstance(player, TokenPlayer)][-1] == "好吃"
    assert text.players.described[-1] == TokenPlayer("text", "好吃", (15, 17))


def test_a_text_halves_at_sentences_then_words_then_tokens() -> None:
    tree = text_players(TEXT, pieces, LAYOUT).players.hierarchy.tree

    # Wond|erfu|l film ! / He said "no." / Then she left .
    assert tree == ((((((0, 1), 2), 3), 4), (((5, 6), 7), ((8, 9), 10))), ((11, 12), (13, 14)))


def test_runs_of_words_are_players_when_a_number_is_asked_for() -> None:
    players = text_players(TEXT, pieces, LAYOUT, n_spans=4).players

    tokens = [player.token for player in players.described if isinstance(player, TokenPlayer)]
    assert tokens == ["Wonderful film!", 'He said "', 'no."', "Then she left."]
    assert_well_made(players, 4)


def test_runs_are_of_whole_sentences_when_there_are_more_of_them() -> None:
    players = text_players(TEXT, pieces, LAYOUT, n_spans=2).players

    tokens = [player.token for player in players.described if isinstance(player, TokenPlayer)]
    assert tokens == ["Wonderful film!", 'He said "no." Then she left.']


def test_no_more_runs_than_words_are_made() -> None:
    players = text_players("Wonderful film", pieces, LAYOUT, n_spans=9).players

    assert [player.token for player in players.described if isinstance(player, TokenPlayer)] == ["Wonderful", "film"]


@pytest.mark.parametrize("text", ["", "   \n"])
def test_a_text_without_tokens_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlayers, match="a text of at least one token"):
        text_players(text, pieces, LAYOUT)


def test_a_text_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidPlayers, match="a text of at most 22 tokens; received 23"):
        text_players("a " * 23, pieces, LAYOUT)


def test_an_overlong_text_can_be_cut_as_the_model_reads_it() -> None:
    text = text_players("a " * 21 + "last lost too", pieces, LAYOUT, overlong="cut")

    assert text.players.n_players == 22
    assert text.players.described[-1] == TokenPlayer("text", "last", (42, 46))
    assert text.unread == (47, 55)
    assert text.row[-1] == 3


@pytest.mark.parametrize("span", [(0, 99), (-1, 2), (3, 2)])
def test_tokens_that_are_not_in_the_text_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(InvalidPlayers, match="tokens in the order of a text of 4 code points"):
        text_players("film", lambda _: [Token("film", span, 5)], LAYOUT)


def test_no_span_of_words_is_refused() -> None:
    with pytest.raises(InvalidPlayers, match="at least one span of words; received 0"):
        text_players("film", pieces, LAYOUT, n_spans=0)


# Groups of columns


def test_a_block_of_columns_is_one_player() -> None:
    players = group_players(["age", "red", "size", "blue"], {"colour": ["red", "blue"]})

    assert players.elements.tolist() == [0, 1, 2, 1]
    assert players.described == (
        FeaturePlayer("age", (0,)),
        FeaturePlayer("colour", (1, 3)),
        FeaturePlayer("size", (2,)),
    )
    assert_well_made(players, 3)


def test_a_group_may_be_named_as_a_column_outside_it() -> None:
    players = group_players(["colour", "red"], {"colour": ["red"]})

    assert players.elements.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"colour": []}, "none in 'colour'"),
        ({"colour": ["green"]}, "'green' in group 'colour'"),
        ({"colour": ["red"], "tone": ["red"]}, "'red' in 'colour', 'tone'"),
    ],
)
def test_groups_that_do_not_fit_the_columns_are_refused(groups: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InvalidPlayers, match=words):
        group_players(["red", "blue"], groups)


def test_features_that_go_together_are_together_longest() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 200))
    noise = 0.1 * rng.normal(size=(200, 4))
    columns = np.stack([one, other, -one, other], axis=1) + noise
    rows = np.column_stack([columns, np.full(200, 0.1)])

    tree = correlation_tree(rows, np.arange(5))

    assert tree == (((0, 2), (1, 3)), 4) or tree == (((1, 3), (0, 2)), 4)


def test_weights_say_which_rows_count() -> None:
    """Among the rows with weight columns 0 and 1 go together; among the others 0 and 2 do."""
    rng = np.random.default_rng(1)
    counted, ignored = rng.normal(size=(2, 50, 3))
    counted[:, 1], ignored[:, 2] = counted[:, 0], ignored[:, 0]
    weights = np.repeat([1 / 50, 0.0], 50)

    tree = correlation_tree(np.concatenate([counted, ignored]), np.arange(3), weights)

    assert tree in ((2, (0, 1)), ((0, 1), 2))


@pytest.mark.parametrize("rows", [np.ones((1, 5)), np.ones((9, 5)), np.eye(5)[:1]])
def test_a_background_that_does_not_vary_halves_the_features_in_order(rows: np.ndarray) -> None:
    assert correlation_tree(rows, np.arange(5)) == (((0, 1), 2), (3, 4))


def test_a_thousand_columns_in_ten_groups_are_explained_exactly() -> None:
    from explain.exact import exact

    rng = np.random.default_rng(2)
    coefficients = rng.normal(size=1000)
    background = rng.normal(size=(3, 1000)).astype(np.float32)
    row = rng.normal(size=1000).astype(np.float32)
    names = [f"column {i}" for i in range(1000)]
    players = group_players(names, {f"group {g}": names[g::10] for g in range(10)}, background=background)

    def evaluate(rows: np.ndarray) -> np.ndarray:
        return (rows.astype(np.float64) @ coefficients)[:, np.newaxis]

    estimate = exact(Game(evaluate, row, Background.of(background, evaluate), players.elements), slice_rows=4096)

    gains = coefficients * (row - background.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(estimate.attributions[:, 0], [gains[g::10].sum() for g in range(10)], atol=1e-4)
    assert_well_made(players, 10)


def test_a_thousand_features_have_a_shallow_tree() -> None:
    rows = np.random.default_rng(3).normal(size=(50, 1000))
    rows[:, ::2] = 0.5

    tree = correlation_tree(rows, np.arange(1000))

    assert sorted(leaves(tree)) == list(range(1000))
    assert depth(tree) < 40


def pieces(text: str) -> list[Token]:
    """Pieces of at most four letters, and signs."""
    found = re.finditer(r"\w{1,4}|[^\w\s]", text)
    return [Token(match.group(), match.span(), 4 + i % 90) for i, match in enumerate(found)]


def photograph() -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg")[100:324, 200:424].astype(np.float32)


def assert_well_made(players: Players, n_players: int) -> None:
    assert np.unique(players.elements).tolist() == list(range(n_players))
    assert players.n_players == players.hierarchy.n_players == n_players


def assert_connected(labels: np.ndarray) -> None:
    from skimage.measure import label

    for segment in np.unique(labels).tolist():
        assert label(labels == segment, connectivity=1).max() == 1


def depth(tree: Tree) -> int:
    return 0 if isinstance(tree, int) else 1 + max(depth(part) for part in tree)
