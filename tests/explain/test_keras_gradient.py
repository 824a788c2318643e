"""Gradients of Keras models: which layers they work for, what is refused and why, and the same bits always."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from explain.errors import GradientNotFinite, NotDifferentiable
from explain.game import Background, Game
from explain.gradients import KerasGradient, expected_gradients, fitting_slice_rows
from explain.integrated import integrated_gradients, named_baseline
from explain.limits import Limits
from explain.players import feature_players, pixel_players
from explain.smoothing import smooth_grad

SLICE_ROWS = 16


def built(kind: str) -> Any:
    """A small model of one kind of layer, with two outputs and seeded weights."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    series = keras.Input((6, 3))
    if kind == "attention":
        hidden = layers.MultiHeadAttention(2, 4)(series, series)
        hidden = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden))
    elif kind == "global max pooling":
        hidden = layers.GlobalMaxPooling1D()(layers.Dense(5, activation="gelu")(series))
    elif kind == "max pooling":
        hidden = layers.Flatten()(layers.MaxPooling1D(2)(layers.Dense(5, activation="tanh")(series)))
    elif kind == "convolution":
        hidden = layers.Flatten()(layers.Conv1D(4, 3, activation="silu")(series))
    elif kind == "bidirectional":
        hidden = layers.Bidirectional(layers.GRU(4))(series)
    else:
        hidden = layers.LSTM(4)(series)
    return keras.Model(series, layers.Dense(2)(hidden))


def game_on(model: Any, rows: Any, row: Any) -> Game:
    def evaluate(rows: Any) -> Any:
        return np.asarray(model(rows, training=False))

    players = feature_players(rows.shape[1]) if rows.ndim == 2 else np.arange(row.size).reshape(row.shape)
    return Game(evaluate, row, Background.of(rows, evaluate), players)


def dense(n_features: int, n_targets: int = 2, activation: str = "tanh", last: str | None = None) -> Any:
    import keras

    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((n_features,)),
            keras.layers.Dense(8, activation=activation),
            keras.layers.Dense(n_targets, activation=last),
        ]
    )


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("lstm", marks=pytest.mark.soak),
        "bidirectional",
        "attention",
        "max pooling",
        "global max pooling",
        "convolution",
    ],
)
def test_attributions_through_a_layer_add_up_for_several_targets_as_for_one(kind: str) -> None:
    model = built(kind)
    rows = normal(4, 6, 3)
    game = game_on(model, rows, normal(6, 3, seed=1))

    gradient = KerasGradient(model, SLICE_ROWS)
    path = integrated_gradients(game, gradient, [0, 1], baseline=rows[0], limits=Limits(1e-3, 2000))
    alone = integrated_gradients(game, gradient, [1], baseline=rows[0], limits=Limits(0, path.evaluations // 2))

    assert 2 == gradient.targets_together
    # A maximum has kinks, where Gauss-Legendre nodes converge slowly.
    assert (np.abs(path.efficiency_residuals) <= 0.02 * path.scales).all()
    np.testing.assert_allclose(path.attributions[:, 1], alone.attributions[:, 0], rtol=1e-3, atol=1e-5)


def test_several_targets_in_one_call_have_the_slopes_of_one_each() -> None:
    gradient = KerasGradient(dense(3, n_targets=12, last="softmax"), SLICE_ROWS)
    rows = normal(SLICE_ROWS, 3)
    targets = np.random.default_rng(0).integers(0, 12, (SLICE_ROWS, 10)).astype(np.int32)

    together = gradient(rows, targets)

    assert (10, (SLICE_ROWS, 10, 3)) == (gradient.targets_together, together.shape)
    alone = np.stack([gradient(rows, targets[:, place]) for place in range(10)], axis=1)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_expected_gradients_of_all_targets_agree_with_those_of_each() -> None:
    model = dense(3, n_targets=12, last="softmax")
    gradient, game = KerasGradient(model, 64), game_on(model, normal(5, 3), normal(3, seed=1))

    everything = expected_gradients(game, gradient, range(12), seed=0, limits=Limits(0, 12 * 640))
    alone = [expected_gradients(game, gradient, [target], seed=0, limits=Limits(0, 640)) for target in range(12)]

    assert 12 * alone[0].evaluations == everything.evaluations
    separate = np.concatenate([estimate.attributions for estimate in alone], axis=1)
    np.testing.assert_allclose(everything.attributions, separate, rtol=1e-4, atol=1e-6)


def embedding(dtype: str) -> Any:
    import keras

    tokens = keras.Input((5,), dtype=dtype)
    hidden = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(tokens))
    return keras.Model(tokens, keras.layers.Dense(2)(hidden))


def multi_input() -> Any:
    import keras

    first, second = keras.Input((2,)), keras.Input((3,))
    return keras.Model([first, second], keras.layers.Dense(1)(keras.layers.Concatenate()([first, second])))


def sequence_output() -> Any:
    import keras

    series = keras.Input((6, 3))
    return keras.Model(series, keras.layers.Dense(2)(series))


def any_length() -> Any:
    import keras

    series = keras.Input((None, 3))
    return keras.Model(series, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(series)))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(
            lambda: embedding("int32"), "its input is int32, and slopes exist along real numbers", id="tokens"
        ),
        pytest.param(lambda: embedding("float32"), "an embedding or a rounding cuts it", id="tokens given as floats"),
        pytest.param(multi_input, "it has 2 inputs and 1 outputs", id="two inputs"),
        pytest.param(any_length, r"its rows have the shape \(None, 3\)", id="series of any length"),
        pytest.param(sequence_output, r"its output has the shape \(None, 6, 2\)", id="an output for each step"),
    ],
)
def test_model_without_usable_gradients_is_refused_with_the_reason_and_a_cure(model: Any, reason: str) -> None:
    with pytest.raises(NotDifferentiable, match=rf"Gradients of this model cannot be taken: .*{reason}.*\. [A-Z]"):
        KerasGradient(model(), SLICE_ROWS)


def test_nan_gradients_of_a_network_are_an_error_in_every_gradient_method() -> None:
    import keras

    row = keras.Input((2,))
    # The root's slope is infinite at 0, which the second feature is in the whole background and in the row.
    model = keras.Model(row, keras.ops.sum(keras.ops.sqrt(row), axis=1, keepdims=True))
    rows = np.array([[1, 0], [4, 0]], np.float32)
    game, gradient = game_on(model, rows, np.array([9, 0], np.float32)), KerasGradient(model, SLICE_ROWS)

    for explain in (
        lambda: expected_gradients(game, gradient, [0], seed=0, limits=Limits(0.1)),
        lambda: integrated_gradients(
            game, gradient, [0], baseline=named_baseline(game.background, "mean"), limits=Limits(0.1)
        ),
        lambda: smooth_grad(game, gradient, [0], seed=0, limits=Limits(0.1), noise=0),
    ):
        with pytest.raises(GradientNotFinite, match=r"output 0 is not finite for 1 of 2 inputs.*takes no gradients"):
            explain()


def test_saturated_softmax_is_worth_nothing_as_probability_and_is_explained_by_its_logit() -> None:
    """Probabilities that round to 1 do not differ, so shares of 0 are right; the log-odds do differ."""
    import keras

    logits = dense(3)
    logits.layers[-1].set_weights([weights * 0 for weights in logits.layers[-1].get_weights()])
    logits.layers[-1].set_weights([2 * normal(8, 2), np.array([80, -80], np.float32)])
    probability = keras.Sequential([logits, keras.layers.Softmax()])
    rows, row = normal(5, 3), normal(3, seed=1)

    flat, varied = (
        expected_gradients(
            game_on(model, rows, row), KerasGradient(model, 64), [0], seed=0, limits=Limits(0.05, 10_000)
        )
        for model in (keras.Model(logits.inputs[0], probability(logits.inputs[0])), logits)
    )

    np.testing.assert_array_equal(flat.attributions, 0)
    np.testing.assert_array_equal(flat.values, 1)
    assert "tolerance" == flat.stop_reason
    assert np.abs(varied.attributions).max() > 0.1
    assert "tolerance" == varied.stop_reason


def test_constant_model_gives_zeros_and_stops_at_once() -> None:
    model = dense(3)
    model.layers[-1].set_weights([np.zeros((8, 2), np.float32), np.array([3, 4], np.float32)])
    game, gradient = game_on(model, normal(5, 3), normal(3, seed=1)), KerasGradient(model, 64)

    for estimate in (
        expected_gradients(game, gradient, [0, 1], seed=0, limits=Limits(0.01)),
        integrated_gradients(game, gradient, [0, 1], baseline=game.background.rows[0], limits=Limits(0.01)),
        smooth_grad(game, gradient, [0, 1], seed=0, limits=Limits(0.01)),
    ):
        np.testing.assert_array_equal(estimate.attributions, 0)
        np.testing.assert_array_equal(estimate.values, [3, 4])
        assert "tolerance" == estimate.stop_reason


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.tile(normal(1, 3, seed=1), (1, 1)), id="one row that is the explained one"),
        pytest.param(np.tile(normal(1, 3, seed=1), (6, 1)), id="six times the explained row"),
    ],
)
def test_row_equal_to_its_background_gets_exact_zeros(rows: Any) -> None:
    model = dense(3)
    game = game_on(model, rows, rows[0])

    estimate = expected_gradients(game, KerasGradient(model, 64), [0], seed=0, limits=Limits(0.01, 5000))

    np.testing.assert_array_equal(estimate.attributions, 0)
    np.testing.assert_array_equal(estimate.standard_errors, 0)
    assert "tolerance" == estimate.stop_reason


@pytest.mark.parametrize("n_rows", [1, 5])
def test_background_without_variance_is_one_path_and_adds_up(n_rows: int) -> None:
    model = dense(3)
    game = game_on(model, np.tile(normal(1, 3), (n_rows, 1)), normal(3, seed=1))
    gradient = KerasGradient(model, 64)

    sampled = expected_gradients(game, gradient, [0], seed=0, limits=Limits(0.001))
    quadrature = integrated_gradients(game, gradient, [0], baseline=game.background.rows[0], limits=Limits(1e-4))
    plain = smooth_grad(game, gradient, [0], seed=0, limits=Limits(0.01))

    assert "tolerance" == sampled.stop_reason
    assert (np.abs(sampled.attributions - quadrature.attributions) <= 2 * sampled.half_widths + 1e-5).all()
    np.testing.assert_allclose(plain.standard_errors, 0, atol=1e-7)  # no spread, no noise


def test_a_single_feature_gets_everything() -> None:
    model = dense(1)
    game = game_on(model, normal(5, 1), np.array([1.5], np.float32))

    estimate = expected_gradients(game, KerasGradient(model, 64), [0], seed=0, limits=Limits(0.001))

    np.testing.assert_allclose(
        estimate.attributions[0], estimate.values - estimate.base_values, atol=0.001 * estimate.scales[0]
    )


def test_a_thousand_features_add_up_within_the_tolerance() -> None:
    model = dense(1000)
    game = game_on(model, normal(5, 1000) / 30, normal(1000, seed=1) / 30)

    estimate = expected_gradients(game, KerasGradient(model, 256), [1], seed=0, limits=Limits(0.01, 50_000))

    assert (1000, 1) == estimate.attributions.shape
    assert "tolerance" == estimate.stop_reason
    assert abs(estimate.efficiency_residuals[0]) <= 0.01 * estimate.scales[0]


def test_image_of_one_colour_is_explained() -> None:
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    rows = normal(5, 6, 6, 1)

    def evaluate(rows: Any) -> Any:
        return np.asarray(model(rows, training=False))

    game = Game(evaluate, np.full((6, 6, 1), 0.5, np.float32), Background.of(rows, evaluate), pixel_players((6, 6, 1)))

    estimate = expected_gradients(game, KerasGradient(model, 64), [0], seed=0, limits=Limits(0.05, 50_000))

    assert "tolerance" == estimate.stop_reason
    assert np.isfinite(estimate.attributions).all()


def test_output_that_moves_in_steps_is_never_said_to_be_within_the_tolerance() -> None:
    """Its slope is 0 wherever there is one: the residual tells that the attributions miss everything."""
    import keras

    row = keras.Input((2,))
    model = keras.Model(row, keras.ops.sum(keras.ops.sign(row) + 0 * row, axis=1, keepdims=True))
    game = game_on(model, np.full((3, 2), -1, np.float32), np.ones(2, np.float32))

    estimate = expected_gradients(game, KerasGradient(model, SLICE_ROWS), [0], seed=0, limits=Limits(0.1, 500))

    np.testing.assert_array_equal(estimate.attributions, 0)
    assert "budget" == estimate.stop_reason
    np.testing.assert_allclose(estimate.efficiency_residuals, [-4.0])


def test_xla_is_left_where_it_lacks_an_operation() -> None:
    script = """
import keras, numpy as np, tensorflow as tf
from explain.gradients import KerasGradient
tf.config.experimental.enable_op_determinism()
image = keras.Input((4, 4, 1))
pooled = keras.layers.MaxPooling2D()(image)
gradient = KerasGradient(keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(pooled))), 8)
slopes = gradient(np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype("f"), np.zeros(8, "i"))
print(gradient.xla, np.count_nonzero(slopes[0]))
"""

    answer = run_alone(script)

    assert "False 4" == answer


@pytest.mark.long
def test_bits_do_not_depend_on_threads_or_on_what_was_explained_before() -> None:
    script = """
import sys, hashlib, keras, numpy as np, tensorflow as tf
from explain.game import Background, Game
from explain.players import pixel_players
from explain.gradients import KerasGradient, expected_gradients
from explain.limits import Limits
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
tf.config.experimental.enable_op_determinism()
keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(),
    layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(10, activation="softmax")])
rows = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype("f")
evaluate = lambda rows: np.asarray(model(rows, training=False))
background = Background.of(rows[:16], evaluate)
gradient = KerasGradient(model, 64)
def explain(row):
    game = Game(evaluate, row, background, pixel_players(row.shape))
    return expected_gradients(game, gradient, range(10), seed=1, limits=Limits(0, 10 * 128)).attributions.tobytes()
order = range(16, 40) if sys.argv[2] == "forward" else range(39, 15, -1)
answers = {i: explain(rows[i]) for i in order}
print(hashlib.sha256(b"".join(answers[i] for i in sorted(answers))).hexdigest())
"""

    answers = [run_alone(script, threads, order) for threads, order in (("1", "forward"), ("4", "backward"))]

    assert 64 == len(answers[0])
    assert answers[0] == answers[1]


def test_slices_are_large_for_small_networks_and_small_for_large_ones() -> None:
    import keras

    image = keras.Input((64, 64, 3))
    large = keras.Model(image, keras.layers.Conv2D(64, 3, padding="same")(image))

    sizes = [fitting_slice_rows(model) for model in (dense(5), dense(3000), large)]

    assert [1024, 128, 8] == sizes


def run_alone(script: str, *arguments: str) -> str:
    """What a script prints in a process of its own."""
    quickly = "from models.lean_keras import import_keras; import_keras()\n"
    done = subprocess.run(
        [sys.executable, "-c", quickly + script, *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert 0 == done.returncode, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]
