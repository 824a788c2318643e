"""The shap package's own explainers, mapped to our result: the reference that ours are compared with.

To be run in a process of its own: shap's DeepExplainer changes TensorFlow's gradients for the whole process while it
runs, shap draws from NumPy's global generator, and nothing in it can be stopped at a deadline.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Attributions, Estimand, Estimate, StopReason
from explain.errors import BudgetTooSmall, MethodDoesNotFit
from explain.game import Background, Evaluate, Game, Outputs, Rows
from explain.hierarchy import Hierarchy, Tree, balanced_tree

ESTIMANDS: dict[str, Estimand] = {
    # DeepLIFT's rescale rule averaged over the background: it adds up, and is the Shapley value of no game.
    "shap.deep": "saliency",
    "shap.gradient": "aumann-shapley",
    "shap.kernel": "shapley",
    "shap.permutation": "shapley",
    "shap.partition": "owen",
    "shap.exact": "shapley",
}
REFERENCE_METHODS = tuple(ESTIMANDS)
SLICE_ROWS = 1024
GRADIENT_SAMPLES = 200
KERNEL_COALITIONS = 2048
"""shap's own default, beside two per player."""
PERMUTATION_COALITIONS = 500
PARTITION_COALITIONS = 500
DEEP_TOLERANCE = 0.01
"""How much of S the attributions of `shap.deep` may miss. Its rules add up, so that more is a rule gone wrong."""
MAX_EXACT_PLAYERS = 16
MAX_KERNEL_BYTES = 2**31
"""KernelExplainer holds every row that it will evaluate."""


@dataclass(frozen=True)
class ReferenceOrder:
    """What a process needs to explain one row with shap. All of it can be pickled.

    Attributes:
        method: one of `REFERENCE_METHODS`.
        model: a Keras file, or a function of a module that gives the Keras model whose outputs are explained.
        row: `row_shape`.
        background: `(n_background, *row_shape)`.
        weights: `(n_background,)`, summing to 1.
        players: an integer array of `row_shape`.
        targets: the outputs to explain; no others are computed where shap can be kept from it.
        budget: the most rows of the network that shap is to evaluate; None for shap's own default.
        hierarchy: for `shap.partition`; halves of halves of the players where none is given.
    """

    method: str
    model: Path | Callable[[], Any]
    row: Rows
    background: Rows
    weights: NDArray[np.float64]
    players: NDArray[np.intp]
    targets: tuple[int, ...]
    seed: int = 0
    budget: int | None = None
    hierarchy: Hierarchy | None = None


def explain_with_shap(order: ReferenceOrder) -> Estimate:
    """Attributions by one of shap's explainers.

    `values` and `base_values` are the model's own, so that the efficiency residual shows what shap's lack. shap states
    no usable errors (GradientExplainer divides a variance by the root of the samples): `standard_errors` are NaN, or 0
    where every coalition was evaluated. `evaluations` are the rows that shap put through the model; for deep and
    gradient, which call it inside a graph, the rows of their graph calls. NumPy's global generator is left as it was,
    and so is the function by which TensorFlow records gradients, which DeepExplainer replaces and, when it fails,
    leaves replaced.

    Raises:
        MethodDoesNotFit: when shap cannot explain this model, row or background, with its reason.
        BudgetTooSmall: when the budget does not cover the least that the explainer can use.
    """
    if order.method not in ESTIMANDS:
        raise MethodDoesNotFit(order.method, "there is no such method", REFERENCE_METHODS)
    model = _load(order.model)
    targets = list(order.targets)
    game = Game(
        _evaluator(model, slice(None)),
        order.row,
        Background.of(order.background, _evaluator(model, slice(None)), order.weights),
        order.players,
    )
    counted = _Counted(_evaluator(model, targets))
    playing = game.playing
    attributions = np.zeros((game.n_players, len(targets)))
    gains = (game.value - game.background.base_values)[targets]
    stop: StopReason = "exact"
    with _numpy_seeded(order.seed):
        if order.method in ("shap.deep", "shap.gradient"):
            _check_differentiable(order, model)
            run = _deep if order.method == "shap.deep" else _gradient
            attributions, counted.evaluations = run(order, model, game)
            stop = "closed-form" if order.method == "shap.deep" else "budget"
        elif len(playing) < 2:
            # shap's explainers of coalitions differ in whether they can take a game of one; there is nothing to share.
            attributions[playing] = gains
        else:
            play = {"kernel": _kernel, "exact": _exact, "permutation": _permutation, "partition": _partition}
            values, complete = play[order.method.removeprefix("shap.")](order, game, counted)
            attributions[playing] = values
            stop = "exact" if complete else "budget"
    errors = np.full_like(attributions, 0.0 if stop == "exact" else np.nan)
    return Estimate(
        method=order.method,
        estimand=ESTIMANDS[order.method],
        attributions=attributions,
        standard_errors=errors,
        half_widths=errors.copy(),
        values=game.value[targets],
        base_values=game.background.base_values[targets],
        scales=game.scales[targets],
        evaluations=counted.evaluations,
        stop_reason=stop,
    )


def _load(model: Path | Callable[[], Any]) -> Any:
    if not isinstance(model, Path):
        return model()
    import keras

    return keras.saving.load_model(model, compile=False)


def _evaluator(model: Any, outputs: Any) -> Evaluate:
    def evaluate(rows: Rows) -> Outputs:
        slices = [rows[start : start + SLICE_ROWS] for start in range(0, len(rows), SLICE_ROWS)]
        return np.concatenate([np.asarray(model(part, training=False)) for part in slices])[:, outputs]

    return evaluate


class _Counted:
    """Evaluates rows and counts them."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self.evaluations = 0

    def __call__(self, rows: Rows) -> NDArray[np.float64]:
        self.evaluations += len(rows)
        return np.asarray(self._evaluate(rows), dtype=np.float64)


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """shap draws from NumPy's global generator: it is seeded for the run, and then what it was."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextlib.contextmanager
def _tensorflow_restored() -> Iterator[None]:
    """DeepExplainer replaces TensorFlow's recording of gradients, and leaves it replaced when it fails."""
    from tensorflow.python.eager import execute

    record_gradient = execute.record_gradient
    try:
        yield
    finally:
        execute.record_gradient = record_gradient


def _refused(order: ReferenceOrder, reason: str) -> MethodDoesNotFit:
    return MethodDoesNotFit(order.method, reason, [name for name in REFERENCE_METHODS if name != order.method])


# Explainers that take the network


def _check_differentiable(order: ReferenceOrder, model: Any) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise _refused(
            order, f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs, not one each"
        )
    if np.issubdtype(order.row.dtype, np.integer):
        raise _refused(order, "rows of whole numbers, such as tokens, have no gradient")
    if not np.allclose(order.weights, order.weights[0]):
        raise _refused(order, "it gives every background row the same weight, and these have different ones")


def _only_targets(model: Any, targets: tuple[int, ...]) -> Any:
    """The model with the asked outputs alone, chosen by a matrix product, which shap has a rule for."""
    import keras

    chosen = np.zeros((model.outputs[0].shape[-1], len(targets)), np.float32)
    chosen[list(targets), np.arange(len(targets))] = 1
    choice = keras.layers.Dense(len(targets), use_bias=False, name="targets")
    outputs = choice(model.outputs[0])
    choice.set_weights([chosen])
    return keras.Model(model.inputs, outputs)


def _deep(order: ReferenceOrder, model: Any, game: Game) -> tuple[Attributions, int]:
    import shap
    from tensorflow.python.autograph.impl.api import StagingError

    # For each target one graph call on the row and the background row, for every background row.
    evaluations = 2 * len(order.background) * len(order.targets)
    if order.budget is not None and order.budget < evaluations:
        raise BudgetTooSmall(order.method, evaluations, order.budget)
    with _tensorflow_restored(), warnings.catch_warnings():
        # It warns at every start that TensorFlow is newer than 2.4.
        warnings.simplefilter("ignore")
        try:
            explainer = shap.DeepExplainer(_only_targets(model, order.targets), order.background)
            # Its own check has an absolute limit: blind to probabilities, and out of reach for large units.
            values = explainer.shap_values(order.row[np.newaxis], check_additivity=False)
        except (StagingError, LookupError, AssertionError, ValueError, TypeError, AttributeError) as error:
            raise _refused(order, _failure(str(error))) from error
    attributions = _to_players(np.asarray(values), game)
    targets = list(order.targets)
    gains = (game.value - game.background.base_values)[targets]
    residuals = np.abs(attributions.sum(axis=0) - gains) / np.maximum(game.scales[targets], np.finfo(float).tiny)
    if not residuals.max() <= DEEP_TOLERANCE:
        reason = f"shap's attributions miss the output by {residuals.max():.2g} of the explanation's scale"
        raise _refused(order, f"{reason}, more than {DEEP_TOLERANCE:g}: it has no right rule for some layer")
    return attributions, evaluations


def _failure(text: str) -> str:
    """What an error that shap ended with means."""
    missing = re.search(r"gradient registry has no entry for: shap_(\w+)", text)
    if missing:
        return f"shap has no rule for TensorFlow's operation {missing[1]}, which this model uses"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"shap failed on this model: {lines[-1] if lines else 'it did not say why'}"


def _gradient(order: ReferenceOrder, model: Any, game: Game) -> tuple[Attributions, int]:
    import shap

    n_targets = len(order.targets)
    samples = GRADIENT_SAMPLES if order.budget is None else order.budget // n_targets
    if samples < 1:
        raise BudgetTooSmall(order.method, n_targets, order.budget or 0)
    explainer = shap.GradientExplainer(_only_targets(model, order.targets), order.background)
    values = explainer.shap_values(order.row[np.newaxis], nsamples=samples, rseed=order.seed % 2**32)
    return _to_players(np.asarray(values), game), samples * n_targets


def _to_players(values: NDArray[np.floating], game: Game) -> Attributions:
    """From `(1, *row_shape, n_targets)` to `(n_players, n_targets)`."""
    return game.sum_to_players(np.moveaxis(values[0].astype(np.float64), -1, 0)).T


# Explainers that take coalitions. Each gives `(n_playing, n_targets)`, and whether every coalition was seen.


def _coalitions(order: ReferenceOrder, least: int, default: int) -> int:
    """How many coalitions the budget pays for."""
    n_background = len(order.background)
    if order.budget is None:
        return max(default, least)
    if order.budget < least * n_background:
        raise BudgetTooSmall(order.method, least * n_background, order.budget)
    return order.budget // n_background


def _kernel(order: ReferenceOrder, game: Game, counted: _Counted) -> tuple[Attributions, bool]:
    import shap
    from shap.utils._legacy import DenseData

    n_playing = len(game.playing)
    everything = 2**n_playing - 2
    least = min(2 * n_playing, everything)
    coalitions = min(_coalitions(order, least, 2 * n_playing + KERNEL_COALITIONS), everything)
    held = coalitions * order.background.nbytes
    if held > MAX_KERNEL_BYTES:
        reason = f"shap would hold {held / 2**30:.0f} GiB of rows; a smaller budget or background is needed"
        raise _refused(order, reason)
    flat = order.background.reshape(len(order.background), -1)
    owners = game.players.reshape(-1)
    groups = [np.flatnonzero(owners == player) for player in range(game.n_players)]
    data = DenseData(flat, [str(player) for player in range(game.n_players)], groups, order.weights.copy())
    explainer = shap.KernelExplainer(lambda rows: counted(rows.reshape(-1, *order.row.shape)), data)
    values = explainer.shap_values(order.row.reshape(1, -1), nsamples=coalitions, l1_reg=False, silent=True)
    return np.asarray(values)[0][game.playing], coalitions == everything


def _exact(order: ReferenceOrder, game: Game, counted: _Counted) -> tuple[Attributions, bool]:
    import shap

    n_playing = len(game.playing)
    if n_playing > MAX_EXACT_PLAYERS:
        raise _refused(order, f"it takes at most {MAX_EXACT_PLAYERS} players, and {n_playing} differ here")
    coalitions = _coalitions(order, 2**n_playing, 2**n_playing)
    explainer = shap.ExactExplainer(_weighted(counted), _Masker(game))
    return _shares(explainer(np.ones((1, n_playing)), max_evals=coalitions, silent=True)), True


def _permutation(order: ReferenceOrder, game: Game, counted: _Counted) -> tuple[Attributions, bool]:
    import shap

    n_playing = len(game.playing)
    coalitions = _coalitions(order, 2 * n_playing + 1, PERMUTATION_COALITIONS)
    explainer = shap.PermutationExplainer(_weighted(counted), _Masker(game), seed=order.seed % 2**32)
    return _shares(explainer(np.ones((1, n_playing)), max_evals=coalitions, silent=True)), False


def _partition(order: ReferenceOrder, game: Game, counted: _Counted) -> tuple[Attributions, bool]:
    import shap

    n_playing = len(game.playing)
    coalitions = _coalitions(order, 4, PARTITION_COALITIONS)
    hierarchy = order.hierarchy or Hierarchy.balanced(game.n_players)
    masker = _Masker(game, _linkage(hierarchy.tree, game.playing))
    explainer = shap.PartitionExplainer(_weighted(counted), masker)
    shares = _shares(explainer(np.ones((1, n_playing)), max_evals=coalitions, silent=True))
    # Two of its coalitions are nobody and everybody.
    return shares, explainer.last_eval_count < coalitions - 2


def _shares(explanation: Any) -> Attributions:
    """`(n_playing, n_targets)`; shap leaves out the axis of a single target, for a model of one output."""
    shares = np.asarray(explanation.values, dtype=np.float64)[0]
    return shares.reshape(len(shares), -1)


class _Masker:
    """Hides players for shap: the background rows, with what the shown players have of the explained row.

    shap takes the plain mean over background rows. So that it is the weighted one, each row comes with a factor for its
    outputs: its weight times the number of rows.
    """

    immutable_outputs = True

    def __init__(self, game: Game, clustering: NDArray[np.float64] | None = None) -> None:
        self.clustering = clustering
        self.shape = (len(game.background.rows), len(game.playing))
        self._game = game

    def __call__(self, shown: NDArray[np.bool_], _row: Any) -> tuple[Rows, NDArray[np.float64]]:
        game = self._game
        of_everyone = np.zeros(game.n_players, dtype=bool)
        of_everyone[game.playing] = shown
        rows = np.where(of_everyone[game.players], game.row, game.background.rows)
        return rows, game.background.weights * len(rows)


def _weighted(counted: _Counted) -> Callable[[Rows, NDArray[np.float64]], NDArray[np.float64]]:
    return lambda rows, factors: counted(rows) * factors[:, np.newaxis]


def _linkage(tree: Tree, playing: NDArray[np.intp]) -> NDArray[np.float64]:
    """The tree of those who play as shap takes it, `(n_playing - 1, 4)` in SciPy's form.

    shap's trees part in two: a group of more parts is halved and halved again.
    """
    column_of = {player: column for column, player in enumerate(playing.tolist())}
    merges: list[tuple[float, float, float, float]] = []

    def pruned(part: Tree) -> Tree | None:
        if isinstance(part, int):
            return column_of.get(part)
        kept = [inner for inner in map(pruned, part) if inner is not None]
        return balanced_tree(kept) if kept else None

    def number(part: Tree) -> tuple[int, int]:
        """The number of a part in SciPy's form, and how many players it holds."""
        if isinstance(part, int):
            return part, 1
        (one, of_one), (other, of_other) = (number(inner) for inner in part)
        merges.append((one, other, len(merges) + 1, of_one + of_other))
        return len(playing) + len(merges) - 1, of_one + of_other

    whole = pruned(tree)
    assert whole is not None
    number(whole)
    return np.array(merges, dtype=np.float64)
