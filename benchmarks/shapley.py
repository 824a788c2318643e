"""How near estimators of Shapley values come with the same number of calls: `kernel` beside shap and shapiq.

`python -m benchmarks.shapley [GAME ...] [--draws N] [--multiples 4 8 16]` prints a table for each game, and ends with
status 1 where `kernel` is worse than a peer or than what was published. It needs the extra `bench`.

The protocol is that of Musco and Witter (2024): budgets are multiples of the number of players, the error is
||estimate - truth||^2 / ||truth||^2, and a table shows its median over draws of a row and a seed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import shap
import shap.maskers
import shapiq  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray

from benchmarks.games import GAMES, Draw, Values
from benchmarks.tables import describe_machine, markdown_table
from explain.limits import Limits
from explain.regression import kernel

MULTIPLES = (4, 8, 16, 32, 64, 128)
DRAWS = 100
SLICE_ROWS = 4096
RESAMPLES = 2000
CONFIDENCE = 0.95

PUBLISHED = {
    "diabetes": {4: 5.1e-3, 8: 1.3e-3, 16: 6.9e-4, 32: 1.6e-4, 64: 3.2e-5},
    "independentlinear60": {4: 7.9e-3, 8: 2.5e-3, 16: 1.1e-3, 32: 5.0e-4, 64: 2.2e-4, 128: 1.0e-4},
}
"""Medians of LeverageSHAP, from the result files of its authors."""


@dataclass(slots=True)
class CountedModel:
    """A draw's model, which knows how many rows it was asked for."""

    draw: Draw
    calls: int = 0

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        self.calls += len(rows)
        return self.draw.model(np.asarray(rows, dtype=np.float32))


Estimator = Callable[[CountedModel, int], Values]
"""A counted model and a budget of calls to Shapley values. The calls for all and for no player come on top."""


def our_kernel(model: CountedModel, budget: int) -> Values:
    game = model.draw.game(model)
    limits = Limits(0, budget)
    estimate = kernel(game, [0], seed=model.draw.seed, limits=limits, slice_rows=SLICE_ROWS)
    return estimate.attributions[:, 0]


def shap_kernel(model: CountedModel, budget: int) -> Values:
    draw = model.draw
    # shap draws from NumPy's global generator
    np.random.seed(draw.seed)
    explainer = shap.KernelExplainer(model, draw.baseline[np.newaxis].astype(np.float64))
    return explainer.shap_values(draw.row.astype(np.float64), nsamples=budget, l1_reg=False, silent=True)


def shap_permutation(model: CountedModel, budget: int) -> Values:
    """A permutation forwards and backwards takes 2 n + 1 calls: it gets no fewer than the budget."""
    draw = model.draw
    per_permutation = 2 * len(draw.row) + 1
    masker = shap.maskers.Independent(draw.baseline[np.newaxis].astype(np.float64))
    explainer = shap.PermutationExplainer(model, masker, seed=draw.seed)
    evaluations = -(-budget // per_permutation) * per_permutation
    row = draw.row[np.newaxis].astype(np.float64)
    explanation: Any = explainer(row, max_evals=evaluations, silent=True)
    return explanation.values[0]


def shapiq_kernel(model: CountedModel, budget: int, *, paired: bool = False) -> Values:
    """Its budget counts the calls for all and for no player, so it gets two more."""
    draw = model.draw

    def value(coalitions: NDArray[Any]) -> NDArray[np.float64]:
        return model(np.where(coalitions, draw.row, draw.baseline))

    approximator = shapiq.KernelSHAP(n=len(draw.row), pairing_trick=paired, random_state=draw.seed)
    with warnings.catch_warnings():
        # It evaluates every coalition of a size at once where that is cheaper than drawing them, and says so each time.
        warnings.filterwarnings("ignore", message="Not all budget is required")
        return approximator.approximate(budget + 2, value).get_n_order_values(1)


ESTIMATORS: dict[str, Estimator] = {
    "kernel": our_kernel,
    "shap Kernel, l1_reg=False": shap_kernel,
    "shap Permutation": shap_permutation,
    "shapiq KernelSHAP": shapiq_kernel,
    "shapiq KernelSHAP, paired": partial(shapiq_kernel, paired=True),
}


@dataclass(slots=True)
class Results:
    """Of one estimator and budget, one entry for each draw."""

    errors: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return float(np.median(self.errors))

    def interval(self) -> tuple[float, float]:
        """The bootstrap interval of the median."""
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(self.errors), size=(RESAMPLES, len(self.errors)))
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(np.median(np.array(self.errors)[drawn], axis=1), [tail, 1 - tail])
        return float(low), float(high)


def measure(game: str, n_draws: int, multiples: list[int]) -> dict[str, dict[int, Results]]:
    """Every estimator at every budget on the same draws."""
    n_players, draws = GAMES[game]
    results = {name: {multiple: Results() for multiple in multiples} for name in ESTIMATORS}
    for draw in draws(n_draws):
        for name, estimator in ESTIMATORS.items():
            for multiple in multiples:
                model = CountedModel(draw)
                started = perf_counter()
                estimate = np.asarray(estimator(model, multiple * n_players), dtype=np.float64)
                found = results[name][multiple]
                found.seconds.append(perf_counter() - started)
                found.calls.append(model.calls)
                found.errors.append(float(((estimate - draw.truth) ** 2).sum() / (draw.truth**2).sum()))
    return results


def tables_of(game: str, results: dict[str, dict[int, Results]]) -> str:
    """Medians with their intervals, and the calls and milliseconds that each estimator took."""
    multiples = list(results["kernel"])
    header = [game, *(f"{multiple}n" for multiple in multiples)]
    rows, costs = [], []
    for name, by_multiple in results.items():
        rows.append([name, *(_error(found) for found in by_multiple.values())])
        costs.append([name, *(_cost(found) for found in by_multiple.values())])
    if game in PUBLISHED:
        known = PUBLISHED[game]
        rows.append(["LeverageSHAP, published", *(f"{known[m]:.1e}" if m in known else "" for m in multiples)])
    header_of_costs = ["calls; ms", *header[1:]]
    return f"{markdown_table(header, rows)}\n\n{markdown_table(header_of_costs, costs)}"


def _error(found: Results) -> str:
    low, high = found.interval()
    return f"{found.median:.1e} ({low:.1e} to {high:.1e})"


def _cost(found: Results) -> str:
    return f"{np.median(found.calls):.0f}; {1000 * np.median(found.seconds):.0f}"


def misses(game: str, results: dict[str, dict[int, Results]]) -> list[str]:
    """Where ours is worse than a peer, or its interval lies above what was published."""
    found = []
    for multiple, mine in results[OURS].items():
        for name in set(results) - {OURS}:
            if results[name][multiple].median < mine.median and mine.median > NOISE:
                found.append(f"{game}, {multiple}n: {name} is better")
        published = PUBLISHED.get(game, {}).get(multiple)
        if published is not None and mine.interval()[0] > published:
            found.append(f"{game}, {multiple}n: published {published:.1e}")
    return found


OURS = "kernel"
NOISE = 1e-9
"""Below this errors are those of the float32 arithmetic of the model, and of the truth."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", nargs="*", metavar="GAME", help=f"of {', '.join(GAMES)}; default: all")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--multiples", type=int, nargs="+", default=list(MULTIPLES))
    options = parser.parse_args()
    if unknown := sorted(set(options.games) - set(GAMES)):
        parser.error(f"expected games of {', '.join(GAMES)}. Received: {', '.join(unknown)}")
    print(f"{describe_machine()}; {options.draws} draws", flush=True)
    worse = []
    for game in options.games or GAMES:
        results = measure(game, options.draws, options.multiples)
        worse += misses(game, results)
        print(f"\n{tables_of(game, results)}", flush=True)
    for miss in worse:
        sys.stderr.write(f"missed: {miss}\n")
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
