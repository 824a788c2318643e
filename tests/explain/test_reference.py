"""shap's own explainers in a process of their own, mapped to our result."""

import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall, ExplanationError, MethodDoesNotFit
from explain.exact import exact
from explain.game import Background, Game
from explain.hierarchy import Hierarchy, Tree
from explain.reference import ReferenceOrder, explain_with_shap

N_FEATURES = 6
WEIGHTS = np.array([0.1, 0.3, 0.2, 0.4])
Explain = Callable[[ReferenceOrder], Estimate]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Keras files: networks of columns and of series."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(11)
    folder = tmp_path_factory.mktemp("networks")

    def saved(name: str, shape: tuple[int, ...], *stack: Any) -> Path:
        inputs = keras.Input(shape)
        hidden = inputs
        for layer in stack:
            hidden = layer(hidden)
        keras.Model(inputs, hidden).save(folder / f"{name}.keras")
        return folder / f"{name}.keras"

    return {
        "tanh": saved("tanh", (N_FEATURES,), layers.Dense(8, activation="tanh"), layers.Dense(3, activation="softmax")),
        "relu": saved("relu", (N_FEATURES,), layers.Dense(8, activation="relu"), layers.Dense(3)),
        "linear": saved("linear", (N_FEATURES,), layers.Dense(3)),
        "gru": saved("gru", (4, 2), layers.GRU(5), layers.Dense(2)),
        "gelu": saved("gelu", (N_FEATURES,), layers.Dense(8, activation="gelu"), layers.Dense(2)),
        "pooled": saved("pooled", (2, 2), layers.GlobalMaxPooling1D(), layers.Dense(2)),
        "large": saved(
            "large", (N_FEATURES,), layers.Dense(8, activation="relu"), layers.Dense(2), layers.Rescaling(1e7)
        ),
    }


@pytest.fixture(scope="module")
def explain() -> Iterator[Explain]:
    """Explains in one other process, in which a failure would be felt by those that come after."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:

        def run(order: ReferenceOrder) -> Estimate:
            found = executor.submit(attempt, order).result()
            if isinstance(found, Estimate):
                return found
            # Exceptions with several arguments do not survive the way between processes.
            kind, arguments = found
            raise kind(*arguments)

        yield run


def attempt(order: ReferenceOrder) -> Estimate | tuple[type[ExplanationError], tuple[Any, ...]]:
    """In the other process: an estimate, or what was refused. NumPy's generator must be left as it was."""
    np.random.seed(123)
    before = np.random.get_state()[1]
    try:
        return explain_with_shap(order)
    except MethodDoesNotFit as error:
        return MethodDoesNotFit, (error.method, str(error), error.fitting)
    except BudgetTooSmall as error:
        return BudgetTooSmall, (order.method, error.needed, order.budget)
    finally:
        np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.long
@pytest.mark.parametrize("method", ["shap.exact", "shap.kernel"])
def test_shap_over_every_coalition_agrees_with_exact(method: str, networks: dict[str, Path], explain: Explain) -> None:
    order = an_order(method, networks["tanh"])

    estimate = explain(order)

    assert (estimate.method, estimate.estimand, estimate.stop_reason) == (method, "shapley", "exact")
    ours = exact(game_of(order), slice_rows=4096)
    assert ours.attributions.shape == (N_FEATURES, 3)
    np.testing.assert_allclose(estimate.attributions, ours.attributions[:, [2, 0]], atol=1e-5 * ours.scales.max())
    np.testing.assert_array_equal(estimate.standard_errors, 0)
    np.testing.assert_allclose(estimate.values, ours.values[[2, 0]], atol=1e-6)
    np.testing.assert_allclose(estimate.base_values, ours.base_values[[2, 0]], atol=1e-6)
    assert estimate.evaluations >= (2**N_FEATURES - 2) * 4


@pytest.mark.long
@pytest.mark.parametrize("method", ["shap.kernel", "shap.permutation"])
def test_shap_by_samples_comes_near_and_states_no_error(
    method: str, networks: dict[str, Path], explain: Explain
) -> None:
    order = replace(an_order(method, networks["tanh"]), budget=40 * 4)

    estimate = explain(order)

    ours = exact(game_of(order), slice_rows=4096)
    assert estimate.stop_reason == "budget"
    assert np.isnan(estimate.standard_errors).all()
    truth = ours.attributions[:, [2, 0]]
    assert np.linalg.norm(estimate.attributions - truth) < 0.25 * np.linalg.norm(truth)
    # The rows of the background and the explained one come on top with shap.kernel.
    assert 0 < estimate.evaluations <= 40 * 4 + 5
    np.testing.assert_allclose(estimate.efficiency_residuals, 0, atol=1e-6)


def test_players_of_several_columns_are_groups_for_shap(networks: dict[str, Path], explain: Explain) -> None:
    order = replace(an_order("shap.exact", networks["tanh"]), players=np.array([1, 0, 1, 2, 2, 2]))

    estimates = [explain(replace(order, method=method)) for method in ("shap.exact", "shap.kernel")]

    ours = exact(game_of(order), slice_rows=4096)
    for estimate in estimates:
        np.testing.assert_allclose(estimate.attributions, ours.attributions[:, [2, 0]], atol=1e-5)


def test_shap_partition_gives_owen_values(networks: dict[str, Path], explain: Explain) -> None:
    """The mean over all orders that keep groups together; a player that equals the background plays no part."""
    order = replace(
        an_order("shap.partition", networks["tanh"]), hierarchy=Hierarchy(((5, (0, 3)), (4, (1, 2)))), budget=10_000
    )
    order.background[:, 1] = order.row[1]

    estimate = explain(order)

    assert (estimate.estimand, estimate.stop_reason) == ("owen", "exact")
    assert order.hierarchy is not None
    game = game_of(order)
    expected = np.mean([contributions(game, queue) for queue in orders(order.hierarchy.tree)], axis=0)
    np.testing.assert_allclose(estimate.attributions, expected[:, [2, 0]], atol=1e-5)
    np.testing.assert_array_equal(estimate.attributions[1], 0)


def test_deep_and_gradient_agree_with_exact_on_a_linear_network(networks: dict[str, Path], explain: Explain) -> None:
    order = evenly(an_order("shap.deep", networks["linear"]))

    deep, gradient = explain(order), explain(replace(order, method="shap.gradient", budget=6000))

    ours = exact(game_of(order), slice_rows=4096).attributions[:, [2, 0]]
    np.testing.assert_allclose(deep.attributions, ours, atol=1e-5)
    assert (deep.evaluations, deep.stop_reason, deep.estimand) == (2 * 4 * 2, "closed-form", "saliency")
    # It draws rows of the background.
    np.testing.assert_allclose(gradient.attributions, ours, atol=0.1)
    assert (gradient.evaluations, gradient.stop_reason, gradient.estimand) == (6000, "budget", "aumann-shapley")
    assert np.isnan(gradient.standard_errors).all()


def test_deep_adds_up_on_rectifiers(networks: dict[str, Path], explain: Explain) -> None:
    estimate = explain(evenly(an_order("shap.deep", networks["relu"])))

    np.testing.assert_allclose(estimate.efficiency_residuals, 0, atol=1e-5)
    assert np.isnan(estimate.standard_errors).all()


@pytest.mark.parametrize("method", ["shap.gradient", "shap.permutation", "shap.kernel"])
def test_a_seed_decides_what_shap_draws(method: str, networks: dict[str, Path], explain: Explain) -> None:
    order = replace(evenly(an_order(method, networks["tanh"])), budget=40 * 4, seed=2**40 + 5)

    first, again, other = explain(order), explain(order), explain(replace(order, seed=6))

    np.testing.assert_array_equal(first.attributions, again.attributions)
    assert np.abs(first.attributions - other.attributions).max() > 1e-6


@pytest.mark.parametrize(("network", "operation"), [("gru", "TensorList[A-Z][a-z]+|While"), ("gelu", "Erf|Erfc|Pow")])
def test_a_layer_without_a_rule_is_refused_and_harms_nobody(
    network: str, operation: str, networks: dict[str, Path], explain: Explain
) -> None:
    """DeepExplainer's failure would leave its process unable to take gradients, and must not reach ours at all."""
    order = evenly(an_order("shap.deep", networks[network]))
    if network == "gru":
        order = series_order("shap.deep", networks["gru"])
    before = gradient_here(networks["gru"])

    with pytest.raises(MethodDoesNotFit, match=f"shap has no rule for TensorFlow's operation ({operation}),"):
        explain(order)

    np.testing.assert_array_equal(gradient_here(networks["gru"]), before)
    after = explain(series_order("shap.gradient", networks["gru"]))
    assert np.isfinite(after.attributions).all()
    assert np.abs(after.attributions).max() > 1e-3


def test_values_that_do_not_add_up_are_refused(networks: dict[str, Path], explain: Explain) -> None:
    """shap's rule for a maximum gives each step the whole of it, where its shapes happen to fit: two steps."""
    order = series_order("shap.deep", networks["pooled"])
    order = replace(
        order, row=order.row[:2], background=order.background[:1, :2], weights=np.ones(1), players=order.players[:2]
    )

    with pytest.raises(MethodDoesNotFit, match=r"shap's attributions miss the output by [0-9.]+ of the explanation's"):
        explain(order)


def test_values_in_large_units_may_round_as_much(networks: dict[str, Path], explain: Explain) -> None:
    """shap's own limit, 0.01 in the units of the output, is less than float32 can tell here."""
    estimate = explain(evenly(an_order("shap.deep", networks["large"])))

    assert np.abs(estimate.attributions).max() > 1e6
    np.testing.assert_allclose(estimate.efficiency_residuals / estimate.scales, 0, atol=1e-5)


@pytest.mark.parametrize("method", ["shap.deep", "shap.gradient"])
def test_unequal_weights_are_refused_where_shap_would_not_see_them(
    method: str, networks: dict[str, Path], explain: Explain
) -> None:
    with pytest.raises(MethodDoesNotFit, match="the same weight, and these have different ones"):
        explain(an_order(method, networks["relu"]))


@pytest.mark.parametrize("method", ["shap.exact", "shap.kernel", "shap.permutation", "shap.partition", "shap.deep"])
def test_a_row_that_equals_the_background_gets_zeros(method: str, networks: dict[str, Path], explain: Explain) -> None:
    order = evenly(an_order(method, networks["relu"]))
    order = replace(order, background=order.row[np.newaxis], weights=np.ones(1))

    estimate = explain(order)

    np.testing.assert_allclose(estimate.attributions, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("shap.exact", 64 * 4),
        ("shap.kernel", 12 * 4),
        ("shap.permutation", 13 * 4),
        ("shap.partition", 4 * 4),
        ("shap.deep", 16),
        ("shap.gradient", 2),
    ],
)
def test_a_budget_below_the_least_is_refused(
    method: str, needed: int, networks: dict[str, Path], explain: Explain
) -> None:
    order = replace(evenly(an_order(method, networks["relu"])), budget=needed - 1)

    with pytest.raises(BudgetTooSmall, match=f"at least {needed} evaluations"):
        explain(order)


def test_many_players_are_refused_by_exact_and_much_memory_by_kernel(explain: Explain) -> None:
    rng = np.random.default_rng(0)
    order = ReferenceOrder(
        method="shap.exact",
        model=sums_of_a_thousand,
        row=rng.normal(size=1000).astype(np.float32),
        background=rng.normal(size=(200, 1000)).astype(np.float32),
        weights=np.full(200, 1 / 200),
        players=np.arange(1000),
        targets=(0,),
    )

    with pytest.raises(MethodDoesNotFit, match="at most 16 players, and 1000 differ"):
        explain(order)
    with pytest.raises(MethodDoesNotFit, match="would hold 3 GiB of rows"):
        explain(replace(order, method="shap.kernel"))


def test_tokens_have_no_gradient_and_unknown_explainers_are_named(networks: dict[str, Path], explain: Explain) -> None:
    order = evenly(an_order("shap.deep", networks["relu"]))
    ids = replace(order, row=order.row.astype(np.int32), background=order.background.astype(np.int32))

    with pytest.raises(MethodDoesNotFit, match="such as tokens, have no gradient"):
        explain(ids)
    with pytest.raises(MethodDoesNotFit, match=r"no such method.*shap\.deep, shap\.gradient"):
        explain(replace(order, method="shap.tree"))


def sums_of_a_thousand() -> Any:
    """A model that is built where it is used."""
    import keras

    return keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1, kernel_initializer="ones")])


def an_order(method: str, model: Path) -> ReferenceOrder:
    """Two of three outputs of a network on six columns, weighted background."""
    rng = np.random.default_rng(1)
    return ReferenceOrder(
        method=method,
        model=model,
        row=rng.normal(size=N_FEATURES).astype(np.float32) * 2,
        background=rng.normal(size=(4, N_FEATURES)).astype(np.float32),
        weights=WEIGHTS,
        players=np.arange(N_FEATURES),
        targets=(2, 0) if model.stem in ("tanh", "relu", "linear") else (1, 0),
    )


def evenly(order: ReferenceOrder) -> ReferenceOrder:
    return replace(order, weights=np.full(4, 0.25))


def series_order(method: str, model: Path) -> ReferenceOrder:
    rng = np.random.default_rng(2)
    return ReferenceOrder(
        method=method,
        model=model,
        row=rng.normal(size=(4, 2)).astype(np.float32),
        background=rng.normal(size=(4, 4, 2)).astype(np.float32),
        weights=np.full(4, 0.25),
        players=np.arange(8).reshape(4, 2),
        targets=(0, 1),
    )


def game_of(order: ReferenceOrder) -> Game:
    import keras

    assert isinstance(order.model, Path)
    model = keras.saving.load_model(order.model)

    def evaluate(rows: Any) -> Any:
        return np.asarray(model(rows, training=False))

    return Game(evaluate, order.row, Background.of(order.background, evaluate, order.weights), order.players)


def gradient_here(network: Path) -> np.ndarray:
    """The gradient of a recurrent network in this process."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(network)
    rows = tf.ones((1, 4, 2))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        output = model(rows, training=False)[:, 0]
    return tape.gradient(output, rows).numpy()


def orders(tree: Tree) -> list[tuple[int, ...]]:
    """Every order of the players that keeps each group together."""
    if isinstance(tree, int):
        return [(tree,)]
    return [
        tuple(itertools.chain(*parts))
        for queue in itertools.permutations(tree)
        for parts in itertools.product(*(orders(part) for part in queue))
    ]


def contributions(game: Game, queue: tuple[int, ...]) -> np.ndarray:
    """What each player adds when it joins in this order, `(n_players, n_outputs)`."""
    coalitions = np.zeros((len(queue) + 1, len(queue)), dtype=bool)
    for place, player in enumerate(queue):
        coalitions[place + 1 :, player] = True
    everyone = np.arange(len(queue))
    members = np.arange(len(game.background.rows))
    values = game.coalition_values(coalitions, everyone, members, slice_rows=4096)
    shares = np.empty((len(queue), values.shape[1]))
    shares[list(queue)] = np.diff(values, axis=0)
    return shares
