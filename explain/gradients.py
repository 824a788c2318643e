"""Gradients of Keras models, and attributions from them along straight paths: expected gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate, StopReason
from explain.errors import BudgetTooSmall, NotDifferentiable
from explain.game import Game, Rows
from explain.limits import Limits
from explain.paths import REPLICATES, Gradient, allowed_residuals, path_sums, replicate_errors

MIRRORED_FROM = 4
"""Positions on a path from which on new ones mirror the old ones.

Mirrored pairs are exact where a slope is linear in their interval, so that errors of smooth networks fall faster than
with random positions; in the wide intervals of few positions they were up to a fifth larger.
"""
GOLDEN = (5**0.5 - 1) / 2

TARGETS_TOGETHER = 10
"""The most targets that one compiled call serves."""
SHARING_PRICE = 1 / 3
"""What one more target adds to a call that computes several, in calls for one: they share the pass forward.

Measured on two cores: 3 targets take 1.3 to 1.9 times a call for one, 10 take 3 to 5.5 times.
"""
SLICE_UNITS = {"cpu": 2**19, "gpu": 2**30}
"""Values of all layers together in one call: what fills a device, and on a GPU what its memory holds."""
LARGEST_SLICE = {"cpu": 1024, "gpu": 4096}


class KerasGradient:
    """Gradients of a Keras model, compiled for one slice size: for one target per row, and for several.

    Args:
        model: maps `(n_rows, *row_shape)` to `(n_rows, n_targets)`.
        slice_rows: rows of every call; see `fitting_slice_rows`.

    Raises:
        NotDifferentiable: when the model has several inputs or outputs, takes integers, or has no gradient with
            respect to its input (an embedding looks numbers up; it does not compute with them).

    XLA is used for networks without convolutions on a CPU and for every network on a GPU: on a CPU oneDNN's
    convolution gradients are faster than XLA's (42 against 60 microseconds a row on an 8 x 8 digits network). Where
    XLA lacks an operation (max pooling with deterministic operations), the network runs without it.
    """

    def __init__(self, model: Any, slice_rows: int) -> None:
        import keras
        import tensorflow as tf

        inputs, outputs = (keras.tree.flatten(getattr(model, ends, None) or []) for ends in ("inputs", "outputs"))
        _check_ends(inputs, outputs)
        self.slice_rows = slice_rows
        self.targets_together = min(outputs[0].shape[-1], TARGETS_TOGETHER)
        convolves = any("conv" in type(layer).__name__.lower() for layer in model._flatten_layers())
        self.device = compute_device()
        self._model, self._shape = model, inputs[0].shape[1:]
        self._compile(xla=self.device == "gpu" or not convolves)
        try:
            self._warm_up()
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            if not self.xla:
                raise
            self._compile(xla=False)
            self._warm_up()

    def _compile(self, *, xla: bool) -> None:
        import tensorflow as tf

        model, n_targets = self._model, self.targets_together
        self._is_cut = False
        rows_spec = tf.TensorSpec((self.slice_rows, *self._shape), tf.float32)

        # Without autograph, which writes a file for each function that it translates, and leaves it where the process
        # is killed. Keras layers need none.
        @tf.function(
            input_signature=[rows_spec, tf.TensorSpec((self.slice_rows,), tf.int32)], jit_compile=xla, autograph=False
        )
        def one(rows: Any, targets: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(rows)
                chosen = tf.gather(model(rows, training=False), targets, batch_dims=1)
            slopes = tape.gradient(chosen, rows)
            # Raised behind the call: what is raised while TensorFlow traces comes out as another class.
            self._is_cut = slopes is None
            return rows if slopes is None else slopes

        @tf.function(
            input_signature=[rows_spec, tf.TensorSpec((self.slice_rows, n_targets), tf.int32)],
            jit_compile=xla,
            autograph=False,
        )
        def several(rows: Any, targets: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
                tape.watch(rows)
                chosen = tf.unstack(tf.gather(model(rows, training=False), targets, batch_dims=1), axis=1)
            # Its backward passes are separate on purpose: batched by `tape.jacobian` they fail for many layers.
            return tf.stack([tape.gradient(output, rows) for output in chosen], axis=1)

        self.xla, self._one, self._several = xla, one, several

    def _warm_up(self) -> None:
        rows = np.zeros((self.slice_rows, *self._shape), np.float32)
        self(rows, np.zeros(self.slice_rows, np.int32))
        if self._is_cut:
            raise NotDifferentiable(
                "no path of computation leads from its input to its output (an embedding or a rounding cuts it)",
                "Explain from the layer behind that one, or use a method that takes no gradients.",
            )
        if self.targets_together > 1:
            self(rows, np.zeros((self.slice_rows, self.targets_together), np.int32))

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.floating[Any]]:
        """Rows are filled up to a slice with the first one, and targets, where that pays, with the last one."""
        n_rows = len(rows)
        rows, targets = (_filled(each, self.slice_rows, each[:1], axis=0) for each in (rows, targets))
        if targets.ndim == 1:
            return self._one(rows, targets).numpy()[:n_rows]
        n_targets = targets.shape[1]
        if n_targets > 1 + (self.targets_together - 1) * SHARING_PRICE:
            together = _filled(targets, self.targets_together, targets[:, -1:], axis=1)
            return self._several(rows, together).numpy()[:n_rows, :n_targets]
        columns = [np.ascontiguousarray(targets[:, place]) for place in range(n_targets)]
        return np.stack([self._one(rows, column).numpy() for column in columns], axis=1)[:n_rows]


def fitting_slice_rows(model: Any) -> int:
    """Rows that one call of a gradient of this model should take: a power of two, at least 8.

    A call costs about half a millisecond whatever it does, so that small networks want many rows in it; a large one
    wants few, for memory and so that a deadline finds a gap. It follows from the sizes of the layers alone, and from
    whether there is a GPU: never from a clock, since attributions can depend on it in the last bits.
    """
    import keras

    units = sum(int(np.prod([size or 1 for size in entry.shape[1:]])) for entry in keras.tree.flatten(model.inputs))
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        for output in keras.tree.flatten(getattr(layer, "output", ())):
            units += int(np.prod([size or 1 for size in output.shape[1:]]))
    device = compute_device()
    fitting = int(np.clip(SLICE_UNITS[device] // max(units, 1), 8, LARGEST_SLICE[device]))
    return 1 << (fitting.bit_length() - 1)


def expected_gradients(
    game: Game, gradient: Gradient, targets: Sequence[int], *, seed: int, limits: Limits
) -> Estimate:
    """Expected gradients: the mean over background rows b and path positions a of (x - b) * df/dx(b + a (x - b)).

    Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients", eq. 4. Eight independent replicates each take the background rows in a random order of their own, all
    of them unless the deadline or the budget comes before, with one position per row from a randomly shifted golden
    sequence. Then each round doubles the positions of every path. Up to 4 they are stratified at random (a nested
    van der Corput sequence; Owen 1995); from there on each is mirrored in its interval (local antithetic sampling;
    Owen 2008). Every position stays uniform, so that the estimate has no bias. The standard error is that of the mean
    of the replicates; half-widths use Student's t with 7 degrees of freedom.

    While some background rows are missing, what is there is a ratio of weighted sums, and no tolerance is said to be
    reached.

    Args:
        targets: the outputs to explain. Where the gradient allows, they share the passes forward.
        seed: the same seed, game and number of evaluations give the same bits; a longer run begins with a shorter one.

    Returns:
        An `Estimate` over the asked targets. The residual is reported, never spread over the attributions.

    Raises:
        BudgetTooSmall: when the budget does not cover one position per replicate and target.
        GradientNotFinite: when a slope is NaN or infinite.
    """
    rng = np.random.default_rng(seed)
    background, chosen = game.background, list(targets)
    counting = np.flatnonzero(background.weights > 0)
    affordable = _affordable(len(counting), len(chosen), limits.budget)
    orders = rng.permuted(np.tile(counting, (REPLICATES, 1)), axis=1)
    positions = ((np.arange(len(counting)) * GOLDEN + rng.random((REPLICATES, 1))) % 1)[..., np.newaxis]
    weights = background.weights[orders]
    sums = np.zeros((REPLICATES, game.n_players, len(chosen)))
    wanted = (game.value - background.base_values)[chosen]
    scales = game.scales[chosen]
    allowed = allowed_residuals(limits.tolerance, scales, game.value[chosen], background.base_values[chosen])
    evaluations, seen, fresh = 0, 0, positions
    # The first round is as long whatever the number of targets, so that a short deadline is kept with many, too.
    new = slice(0, min(affordable, max(gradient.slice_rows // (REPLICATES * len(chosen)), 1)))
    while True:
        shares = np.broadcast_to(weights[:, new, np.newaxis], fresh[:, new].shape)
        elements = path_sums(gradient, game.row, background.rows, orders[:, new], fresh[:, new], shares, chosen)
        for place in range(len(chosen)):
            sums[:, :, place] += game.sum_to_players(elements[..., place])
        evaluations += shares.size * len(chosen)
        seen = new.stop
        estimates = sums / (weights[:, :seen].sum(axis=1) * positions.shape[2])[:, np.newaxis, np.newaxis]
        attributions = estimates.mean(axis=0)
        errors, half_widths = replicate_errors(estimates, n_points=seen * positions.shape[2])
        residuals = np.abs(attributions.sum(axis=0) - wanted)
        whole = seen == len(counting)
        following = positions.size if whole else REPLICATES * max(min(2 * seen, affordable) - seen, 1)
        within = (half_widths <= limits.tolerance * scales).all() and (residuals <= allowed).all()
        stop: StopReason | None = limits.stop_reason(
            within=whole and bool(within),
            evaluations=evaluations,
            next_round=following * len(chosen),
        )
        if stop is not None:
            break
        if whole:
            fresh, new = refine(positions, rng), slice(0, len(counting))
            positions = np.concatenate([positions, fresh], axis=2)
        else:
            new = slice(seen, min(2 * seen, affordable))
    return Estimate(
        method="expected-gradients",
        estimand="aumann-shapley",
        attributions=attributions,
        standard_errors=errors,
        half_widths=half_widths,
        values=game.value[chosen],
        base_values=background.base_values[chosen],
        scales=scales,
        evaluations=evaluations,
        stop_reason=stop,
    )


def refine(positions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """One new position in each empty half of the strata that hold one each.

    Up to `MIRRORED_FROM` strata it is drawn at random; beyond, it is the mirror image of the old one.

    Args:
        positions: `(..., m)` in [0, 1), one in each of m equal strata.

    Returns:
        `(..., m)`, so that the old and new ones together hold one in each of 2 m equal strata.
    """
    n_strata = positions.shape[-1]
    if n_strata >= MIRRORED_FROM:
        mirrored = (2 * np.floor(positions * n_strata) + 1) / n_strata - positions
    else:
        halves = np.floor(positions * 2 * n_strata).astype(np.int64)
        mirrored = ((halves ^ 1) + rng.random(positions.shape)) / (2 * n_strata)
    return np.minimum(mirrored, np.nextafter(1.0, 0.0))


def _affordable(n_background: int, n_targets: int, budget: int | None) -> int:
    """Background rows that a budget lets each replicate take."""
    affordable = n_background if budget is None else budget // (REPLICATES * n_targets)
    if affordable < 1:
        raise BudgetTooSmall("expected-gradients", REPLICATES * n_targets, budget or 0)
    return min(affordable, n_background)


def _filled(values: NDArray[Any], size: int, filling: NDArray[Any], axis: int) -> NDArray[Any]:
    lacking = size - values.shape[axis]
    return np.concatenate([values, np.repeat(filling, lacking, axis=axis)], axis=axis) if lacking else values


def compute_device() -> str:
    """What TensorFlow computes on here: cpu or gpu."""
    import tensorflow as tf

    return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"


def _check_ends(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    if len(inputs) != 1 or len(outputs) != 1:
        raise NotDifferentiable(
            f"it has {len(inputs)} inputs and {len(outputs)} outputs, and one of each is expected",
            "Wrap it in a functional model that takes its inputs as one array, splits them, and gives one output.",
        )
    if not str(inputs[0].dtype).startswith(("float", "bfloat")):
        raise NotDifferentiable(
            f"its input is {inputs[0].dtype}, and slopes exist along real numbers only",
            "Explain from the layer behind the embedding, or use a method that takes no gradients.",
        )
    if None in inputs[0].shape[1:]:
        raise NotDifferentiable(
            f"its rows have the shape {tuple(inputs[0].shape[1:])}, and calls are compiled for a fixed one",
            "Build the model on an input of the shape that its rows have.",
        )
    if len(outputs[0].shape) != 2:
        raise NotDifferentiable(
            f"its output has the shape {tuple(outputs[0].shape)}, and (n_rows, n_targets) is expected",
            "Pool or choose until each target is one number per row.",
        )
