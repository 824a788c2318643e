"""Grad-CAM, Grad-CAM++ and LayerCAM: known answers, how maps reach pixels and steps, which layers fit, bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from explain.attribution import Estimate
from explain.cam import KerasFeatureMaps, fitting_layers, grad_cam, grad_cam_plus_plus, layer_cam
from explain.errors import BudgetTooSmall, LayerDoesNotFit, MethodDoesNotFit, NotFinite
from explain.game import Background, Game
from explain.limits import Limits
from explain.positions import resized

layers = keras.layers
LIMITLESS = Limits(tolerance=0)
METHODS = [grad_cam, grad_cam_plus_plus, layer_cam]
BIAS = np.array([0.5, -0.25, 1.0], dtype=np.float32)


class GivenMaps:
    """Feature maps and gradients of a network that the test makes up."""

    layer, slice_rows = "made-up", 1

    def __init__(self, features: Any, gradients: Any) -> None:
        self._pair = np.asarray(features, float)[np.newaxis], np.asarray(gradients, float)[np.newaxis]

    def __call__(self, _rows: Any, _targets: Any) -> Any:
        return self._pair


@pytest.fixture(scope="module")
def averaging() -> Any:
    """Convolution, ReLU, global average pooling, one linear layer: what class activation maps were made for."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 4, 2))
    hidden = layers.Conv2D(5, 3, padding="same", activation="relu", name="maps")(inputs)
    hidden = layers.GlobalAveragePooling2D()(hidden)
    model = keras.Model(inputs, layers.Dense(3, name="head")(hidden))
    model.get_layer("head").set_weights([np.abs(model.get_layer("head").get_weights()[0]), BIAS])
    return model


@pytest.fixture(scope="module")
def averaging_maps(averaging: Any) -> KerasFeatureMaps:
    return KerasFeatureMaps(averaging)


@pytest.fixture(scope="module")
def branching() -> Any:
    """A residual block, squeeze and excitation, pooling and a dense head: much passes the layers by."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 1), name="image")
    first = layers.Conv2D(3, 3, padding="same", activation="relu", name="first")(inputs)
    second = layers.Conv2D(3, 3, padding="same", name="second")(first)
    both = layers.Add(name="sum")([first, second])
    gate = layers.Dense(3, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(first))
    gated = layers.Multiply(name="gated")([both, gate])
    pooled = layers.MaxPooling2D(name="pooled")(gated)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten(name="flat")(pooled)))


def test_behind_average_pooling_and_a_linear_layer_grad_cam_is_cam_and_credits_all_but_the_bias(
    averaging: Any,
    averaging_maps: KerasFeatureMaps,
) -> None:
    game = game_of(averaging)
    features = keras.Model(averaging.input, averaging.get_layer("maps").output)(game.row[np.newaxis]).numpy()[0]
    weights = averaging.get_layer("head").get_weights()[0]
    class_activation_maps = (features @ weights).reshape(24, 3) / 24

    estimate = grad_cam(game, averaging_maps, [0, 1, 2], limits=LIMITLESS)

    np.testing.assert_allclose(estimate.attributions, class_activation_maps, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(estimate.attributions.sum(axis=0), game.value - BIAS, rtol=1e-5)
    # The known constant: what the background's mean has more than the bias.
    np.testing.assert_allclose(estimate.efficiency_residuals, game.background.base_values - BIAS, rtol=1e-4)


def test_behind_a_linear_layer_of_positive_weights_layer_cam_is_grad_cam(
    averaging: Any, averaging_maps: KerasFeatureMaps
) -> None:
    game = game_of(averaging)

    plain, by_cell = (method(game, averaging_maps, [1], limits=LIMITLESS) for method in (grad_cam, layer_cam))

    np.testing.assert_allclose(by_cell.attributions, plain.attributions, rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # means of gradients 1.5 and -0.5; cells 1.5*1 - 0.5*2, 1.5*3 - 0.5*0
        pytest.param(grad_cam, [0.5, 4.5], id="grad-cam"),
        # sums of maps 4 and 2; weights 1/(2+4)+2/(2+8) and 1/(2+2) for the cell whose gradient is positive
        pytest.param(grad_cam_plus_plus, [11 / 30 * 1 + 0.25 * 2, 11 / 30 * 3], id="grad-cam++"),
        # cells 1*1 + 1*2 and 2*3 + 0
        pytest.param(layer_cam, [3.0, 6.0], id="layer-cam"),
    ],
)
def test_map_of_two_cells_and_two_channels_is_the_papers(method: Callable[..., Estimate], expected: Any) -> None:
    maps = GivenMaps([[1, 2], [3, 0]], [[1, 1], [2, -2]])

    estimate = method(series_game(n_steps=2), maps, [0], limits=LIMITLESS)

    np.testing.assert_allclose(estimate.attributions[:, 0], expected)


@pytest.mark.parametrize("method", METHODS)
def test_evidence_against_the_output_is_cut_off(method: Callable[..., Estimate]) -> None:
    estimate = method(series_game(n_steps=2), GivenMaps([[1], [3]], [[-1], [-2]]), [0], limits=LIMITLESS)

    np.testing.assert_array_equal(estimate.attributions, [[0], [0]])


def test_coarse_map_is_interpolated_between_the_centres_of_its_cells_and_keeps_its_sum() -> None:
    maps = GivenMaps([[1], [3]], [[1], [1]])

    estimate = grad_cam(series_game(n_steps=8), maps, [0], limits=LIMITLESS)

    # Cells of 4 steps, centred at 1.5 and 5.5; each step has a quarter of its cell.
    expected = np.array([1, 1, 1.25, 1.75, 2.25, 2.75, 3, 3]) / 4
    np.testing.assert_allclose(estimate.attributions[:, 0], expected)
    assert pytest.approx(1 + 3) == estimate.attributions.sum()


def test_grids_are_resized_along_each_axis() -> None:
    plane = np.add.outer([0.0, 3.0], [0.0, 1.0, 2.0])

    finer, coarser = resized(plane, (6, 3)), resized(np.arange(6.0).reshape(6, 1), (4, 1))

    np.testing.assert_allclose(finer, np.add.outer([0, 0, 1, 2, 3, 3], [0, 1, 2]))
    # Each position takes 1.5 cells: 0 and half of 1, the other half and 2, ...
    np.testing.assert_allclose(coarser[:, 0], [0.5 / 1.5, 2.5 / 1.5, 5 / 1.5, 7 / 1.5])


def test_player_of_several_steps_gets_their_sum_and_one_of_several_channels_its_part() -> None:
    maps = GivenMaps([[1], [2], [3], [4]], [[1]] * 4)
    windows = np.array([[0, 0], [0, 0], [1, 1], [1, 1]])
    channels = np.array([[0, 1], [0, 1], [2, 3], [2, 3]])

    by_window, by_channel = (
        grad_cam(series_game(4, players), maps, [0], limits=LIMITLESS) for players in (windows, channels)
    )

    np.testing.assert_allclose(by_window.attributions[:, 0], [3, 7])
    np.testing.assert_allclose(by_channel.attributions[:, 0], [1.5, 1.5, 3.5, 3.5])


@pytest.mark.parametrize("layer", ["first", "second", "sum", "gated", "pooled"])
def test_gradients_by_any_layer_agree_with_finite_differences(branching: Any, layer: str) -> None:
    row = game_of(branching).row[np.newaxis]

    features, gradients = KerasFeatureMaps(branching, layer)(row, np.array([1], dtype=np.int32))

    direction = np.random.default_rng(0).normal(size=features.shape).astype(np.float32)
    moved = [moved_output(branching, layer, row, step * direction)[0, 1] for step in (1e-4, -1e-4)]
    assert pytest.approx((moved[0] - moved[1]) / 2e-4, rel=1e-2, abs=5e-3) == (gradients * direction).sum()


def moved_output(model: Any, layer: str, row: Any, shift: Any) -> Any:
    """The model's output with `shift` added to what one layer gives."""

    class Shift(layers.Layer):
        def call(self, given: Any) -> Any:
            return given + shift

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        given = operation(*arguments, **options)
        return Shift()(given) if operation.name == layer else given

    shifted = keras.models.clone_model(model, call_function=call, clone_function=lambda original: original)
    return shifted(row).numpy()


def test_layers_that_fit_are_those_whose_maps_lie_over_the_input(branching: Any) -> None:
    assert ["first", "second", "sum", "gated", "pooled"] == fitting_layers(branching)


def test_without_a_name_the_last_map_before_pooling_is_taken(branching: Any, averaging_maps: KerasFeatureMaps) -> None:
    assert "gated" == KerasFeatureMaps(branching).layer
    assert "maps" == averaging_maps.layer


@pytest.mark.parametrize("name", ["nowhere", "flat", "head", "image"])
def test_layer_that_does_not_fit_is_refused_with_those_that_do(branching: Any, name: str) -> None:
    with pytest.raises(LayerDoesNotFit, match="first, second, sum, gated, pooled") as refusal:
        KerasFeatureMaps(branching, name)

    assert repr(name) in str(refusal.value)
    assert "pooled" == refusal.value.fitting[-1]


def test_layers_behind_recurrence_attention_or_reshaping_do_not_fit() -> None:
    inputs = keras.Input((8, 2))
    hidden = layers.Conv1D(4, 3, padding="same", name="convolved")(inputs)
    recurrent = layers.GRU(4, return_sequences=True)(hidden)
    attended = layers.MultiHeadAttention(1, 2)(hidden, hidden)
    turned = layers.Reshape((8, 4))(layers.Permute((2, 1))(hidden))
    merged = layers.Add()([recurrent, attended, layers.ReLU()(turned)])
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(merged)))

    assert ["convolved"] == fitting_layers(model)


def test_model_used_as_a_layer_is_one_layer() -> None:
    image = keras.Input((6, 6, 1))
    base = keras.Model(image, layers.Conv2D(2, 3)(image), name="base")
    model = keras.Sequential([keras.Input((6, 6, 1)), base, layers.GlobalAveragePooling2D(), layers.Dense(2)])

    estimate = grad_cam(game_of(model), KerasFeatureMaps(model), [0], limits=LIMITLESS)

    assert ["base"] == fitting_layers(model)
    assert np.isfinite(estimate.attributions).all()


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        pytest.param(lambda inputs: layers.Dense(4)(layers.Flatten()(inputs)), "no convolution", id="dense"),
        pytest.param(
            lambda inputs: layers.Flatten()(layers.Conv2D(2, 3)(layers.Reshape((4, 4, 1))(inputs))),
            "no convolution whose feature map lies over the input",
            id="positions rearranged before the convolution",
        ),
        pytest.param(
            lambda inputs: layers.Flatten()(layers.Conv2D(2, (4, 4))(inputs)), "no convolution", id="a map of one cell"
        ),
    ],
)
def test_network_without_a_feature_map_is_refused(hidden: Callable[[Any], Any], said: str) -> None:
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, layers.Dense(2)(hidden(inputs)))

    with pytest.raises(MethodDoesNotFit, match=said) as refusal:
        KerasFeatureMaps(model, "dense")

    assert "occlusion" in refusal.value.fitting


def test_network_that_is_no_graph_of_one_input_is_refused() -> None:
    class Subclassed(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    left, right, anything = keras.Input((4, 4, 1)), keras.Input((4, 4, 1)), keras.Input((None, None, 1))
    two_inputs = keras.Model([left, right], layers.Conv2D(1, 3)(layers.Add()([left, right])))
    any_size = keras.Model(anything, layers.GlobalAveragePooling2D()(layers.Conv2D(1, 3)(anything)))

    for model, said in ((Subclassed(), "not a graph"), (two_inputs, "2 inputs"), (any_size, "no fixed shape")):
        with pytest.raises(MethodDoesNotFit, match=said):
            fitting_layers(model)


def test_one_dimensional_convolution_finds_the_steps_that_it_reads() -> None:
    """A network that adds up steps 5 and 6 of the first channel."""
    inputs = keras.Input((8, 2))
    hidden = layers.Conv1D(1, 1, use_bias=False, activation="relu", name="first-channel")(inputs)
    model = keras.Model(inputs, layers.Dense(1, use_bias=False)(layers.Flatten()(hidden)))
    model.set_weights([np.array([[[1.0], [0.0]]]), np.eye(8)[:, [5]] + np.eye(8)[:, [6]]])
    game = replace(game_of(model), row=np.ones((8, 2), dtype=np.float32))

    estimate = layer_cam(game, KerasFeatureMaps(model), [0], limits=LIMITLESS)

    np.testing.assert_allclose(estimate.attributions[:, 0], [0, 0, 0, 0, 0, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("slice_rows", [1, 2, 3, 5])
def test_map_of_a_target_does_not_depend_on_the_others(averaging: Any, slice_rows: int) -> None:
    game, maps = game_of(averaging), KerasFeatureMaps(averaging, slice_rows=slice_rows)

    together = grad_cam(game, maps, [2, 0, 1], limits=LIMITLESS)
    alone = grad_cam(game, maps, [0], limits=LIMITLESS)

    np.testing.assert_array_equal(together.attributions[:, [1]], alone.attributions)
    np.testing.assert_array_equal(together.values, game.value[[2, 0, 1]])
    assert (3, 1) == (together.evaluations, alone.evaluations)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_sampled_and_no_axioms_are_claimed(
    averaging: Any, averaging_maps: KerasFeatureMaps, method: Callable[..., Estimate]
) -> None:
    estimate = method(game_of(averaging), averaging_maps, [1], limits=LIMITLESS)

    assert ("saliency", "closed-form") == (estimate.estimand, estimate.stop_reason)
    assert (24, 1) == estimate.attributions.shape
    assert np.isnan(estimate.standard_errors).all()
    assert np.isnan(estimate.half_widths).all()
    assert estimate.attributions.max() > 0


def test_budget_below_one_row_a_target_is_refused(averaging: Any, averaging_maps: KerasFeatureMaps) -> None:
    with pytest.raises(BudgetTooSmall, match=r"at least 3 .* received 2"):
        grad_cam(game_of(averaging), averaging_maps, [0, 1, 2], limits=Limits(0, 2))


@pytest.mark.parametrize("method", METHODS)
def test_image_of_one_colour_has_a_map(
    averaging: Any, averaging_maps: KerasFeatureMaps, method: Callable[..., Estimate]
) -> None:
    game = replace(game_of(averaging), row=np.full((6, 4, 2), 0.5, dtype=np.float32))

    estimate = method(game, averaging_maps, [0], limits=LIMITLESS)

    # Away from the padding every cell sees the same.
    inner = estimate.attributions.reshape(6, 4)[1:-1, 1:-1]
    np.testing.assert_allclose(inner, inner[0, 0], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_are_not_finite_are_refused(method: Callable[..., Estimate]) -> None:
    game = series_game(2)
    fine, broken = [[1.0], [3.0]], [[np.inf], [np.nan]]

    for maps in (GivenMaps(fine, broken), GivenMaps(broken, fine)):
        with pytest.raises(NotFinite, match="layer 'made-up'"):
            method(game, maps, [0], limits=LIMITLESS)
    with pytest.raises(NotFinite, match="the model's answer"):
        method(replace(game, row=game.row * np.nan), GivenMaps(fine, fine), [0], limits=LIMITLESS)


def game_of(model: Any) -> Game:
    """A row and two background rows for a model of images or series, each position a player."""
    rng = np.random.default_rng(0)
    shape = tuple(model.inputs[0].shape[1:])
    rows = rng.normal(size=(3, *shape)).astype(np.float32)

    def evaluate(batch: Any) -> Any:
        return model(batch, training=False).numpy()

    positions = np.arange(np.prod(shape[:-1])).reshape(*shape[:-1], 1)
    return Game(evaluate, rows[0], Background.of(rows[1:], evaluate), np.broadcast_to(positions, shape))


def series_game(n_steps: int, players: Any = None) -> Game:
    """A series of two channels, for maps that the test makes up."""
    row = np.ones((n_steps, 2), dtype=np.float32)

    def evaluate(rows: Any) -> Any:
        return rows.sum(axis=(1, 2))[:, np.newaxis]

    if players is None:
        players = np.repeat(np.arange(n_steps), 2).reshape(n_steps, 2)
    return Game(evaluate, row, Background.of(np.zeros_like(row)[np.newaxis], evaluate), players)
