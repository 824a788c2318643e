"""Whether stated errors are the errors made: every estimator that states them, on games whose truth is known.

`python -m benchmarks.calibration [ESTIMATOR ...] [--games NAME ...] [--stops NAME ...] [--rows 50] [--seeds 40]` prints
one table and ends with status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_truths import (
    RISE_CELLS,
    as_series,
    of_interactions,
    rise_saliency,
    smoothed_slopes,
    unanimity_interactions,
)
from benchmarks.tables import describe_machine, markdown_table
from explain.attribution import Estimate
from explain.exact import exact
from explain.game import Background, Evaluate, Game
from explain.gradients import expected_gradients
from explain.limits import Limits
from explain.partition import partition
from explain.permutation import permutation
from explain.perturbation import rise
from explain.players import feature_players
from explain.regression import kernel
from explain.smoothing import NOISE, smooth_grad

SLICE_ROWS = 512
COVERAGE = (0.93, 0.97)
RATIO = (0.9, 1.2)
RESAMPLES = 1000
STOPS = ("8d", "32d", "tolerance")

Values = NDArray[np.float64]
"""`(n_players,)`."""


class NumpyGradient:
    """The gradient of a function of one output, for `expected_gradients`."""

    slice_rows = SLICE_ROWS

    def __init__(self, slopes: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
        self._slopes = slopes

    def __call__(self, rows: NDArray[np.float32], targets: NDArray[np.int32]) -> NDArray[np.float64]:
        del targets
        return self._slopes(rows.astype(np.float64))


@dataclass(frozen=True)
class Case:
    """A game, and what depends on it.

    Attributes:
        shapley: its Shapley values.
        interactions: `(n_pairs,)`, of every two players.
        slopes: rows `(n, n_players)` to gradients of the same shape; None where there is none.
    """

    game: Game
    shapley: Values
    interactions: Values
    slopes: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Family:
    """Rows of one kind.

    Attributes:
        case: a row by its number.
        tolerance: at which runs without a budget stop.
    """

    name: str
    n_players: int
    case: Callable[[int], Case]
    tolerance: float


@dataclass(frozen=True)
class Estimator:
    """A method under test.

    Attributes:
        run: of a case, a seed and limits.
        truth: what it should give.
        fits: whether it runs on a case.
    """

    run: Callable[[Case, int, Limits], Estimate]
    truth: Callable[[Case], Values]
    fits: Callable[[Case], bool] = lambda _: True


def network(number: int, *, n_players: int, n_background: int) -> Case:
    """A row of a network with one hidden layer and a probability for output; Shapley values by enumeration."""
    rng = np.random.default_rng(7)
    inner, bias = rng.normal(size=(n_players, 16)) * 3 / math.sqrt(n_players), rng.normal(size=16)
    outer = rng.normal(size=(16, 1))

    def evaluate(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-np.tanh(rows.astype(np.float64) @ inner + bias) @ outer))

    def slopes(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        hidden = np.tanh(rows @ inner + bias)
        output = 1 / (1 + np.exp(-hidden @ outer))
        return output * (1 - output) * ((outer[:, 0] * (1 - hidden**2)) @ inner.T)

    background = rng.normal(size=(n_background, n_players))
    row = np.random.default_rng([7, number]).normal(size=n_players)
    game = _game(evaluate, row, background)
    truth = exact(game, slice_rows=SLICE_ROWS, interactions=True)
    return Case(game, truth.attributions[:, 0], of_interactions(truth).attributions[:, 0], slopes)


def unanimity(number: int, *, n_players: int) -> Case:
    """A sum of unanimity games of 1 to 5 members with random coefficients; Shapley values in closed form."""
    rng = np.random.default_rng([n_players, number])
    sizes = rng.integers(1, 6, size=5 * n_players)
    members = np.argsort(np.argsort(rng.random((len(sizes), n_players)))) < sizes[:, np.newaxis]
    coefficients = rng.normal(size=len(sizes))

    def evaluate(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        joined = np.rint(rows.astype(np.float64) @ members.T)
        return ((joined == sizes) @ coefficients)[:, np.newaxis]

    game = _game(evaluate, np.ones(n_players), np.zeros((1, n_players)))
    shapley = (members / sizes[:, np.newaxis]).T @ coefficients
    return Case(game, shapley, unanimity_interactions(members, coefficients))


FAMILIES = (
    Family("network, 12", 12, partial(network, n_players=12, n_background=4), 0.05),
    Family("unanimity, 20", 20, partial(unanimity, n_players=20), 0.1),
    Family("unanimity, 60", 60, partial(unanimity, n_players=60), 0.2),
)

ESTIMATORS = {
    "kernel": Estimator(
        lambda case, seed, limits: kernel(case.game, [0], seed=seed, limits=limits, slice_rows=SLICE_ROWS),
        lambda case: case.shapley,
    ),
    "permutation": Estimator(
        lambda case, seed, limits: permutation(case.game, [0], seed=seed, limits=limits, slice_rows=SLICE_ROWS),
        lambda case: case.shapley,
    ),
    "partition": Estimator(
        lambda case, seed, limits: partition(case.game, [0], seed=seed, limits=limits, slice_rows=SLICE_ROWS),
        lambda case: partition(case.game, [0], seed=0, limits=Limits(0), slice_rows=SLICE_ROWS).attributions[:, 0],
    ),
    "expected-gradients": Estimator(
        lambda case, seed, limits: expected_gradients(
            case.game, NumpyGradient(_slopes(case)), [0], seed=seed, limits=limits
        ),
        lambda case: aumann_shapley(case),
        lambda case: case.slopes is not None,
    ),
    "kernel, interactions": Estimator(
        lambda case, seed, limits: of_interactions(
            kernel(case.game, [0], seed=seed, limits=limits, slice_rows=SLICE_ROWS, interactions=True)
        ),
        lambda case: case.interactions,
    ),
    "smooth-grad": Estimator(
        lambda case, seed, limits: smooth_grad(case.game, NumpyGradient(_slopes(case)), [0], seed=seed, limits=limits),
        lambda case: smoothed_slopes(case.game, _slopes(case), noise=NOISE),
        lambda case: case.slopes is not None,
    ),
    "rise": Estimator(
        lambda case, seed, limits: rise(
            as_series(case.game), [0], seed=seed, limits=limits, slice_rows=SLICE_ROWS, cells=RISE_CELLS
        ),
        lambda case: rise_saliency(as_series(case.game)),
    ),
}
"""Add an estimator here, and it is measured with the others."""


def aumann_shapley(case: Case) -> Values:
    """Attributions along straight paths from every background row, by 200 Gauss-Legendre nodes."""
    nodes, node_weights = np.polynomial.legendre.leggauss(200)
    game, row = case.game, case.game.row.astype(np.float64)
    total = np.zeros(game.n_players)
    for reference, weight in zip(game.background.rows.astype(np.float64), game.background.weights, strict=True):
        points = reference + np.outer((nodes + 1) / 2, row - reference)
        total += weight * (row - reference) * (node_weights / 2 @ _slopes(case)(points))
    return total


@dataclass(frozen=True)
class Result:
    """One cell: an estimator on a family under one kind of limits.

    Attributes:
        exact_part: the part of runs that were exact, which are not counted in the others.
        silent_part: the part of errors that were not stated. A line that states none promises nothing, and passes.
        coverage: of 95 % intervals; `interval`: of it, by a bootstrap over rows.
        ratio: root mean square of stated errors / deviation of estimates over seeds.
    """

    estimator: str
    family: str
    limits: str
    exact_part: float
    silent_part: float
    error: float
    coverage: float
    interval: tuple[float, float]
    ratio: float

    @property
    def passed(self) -> bool:
        if self.exact_part == 1 or self.silent_part == 1:
            return True
        covered = COVERAGE[0] <= self.coverage <= COVERAGE[1] or self.interval[1] >= 0.95
        return covered and RATIO[0] <= self.ratio <= RATIO[1]


def measure(
    name: str, estimator: Estimator, family: Family, n_rows: int, n_seeds: int, stops: Collection[str] = STOPS
) -> Iterator[Result]:
    """Some kinds of limits in turn. Runs that are exact or state no error count for nothing."""
    cases = [case for case in map(family.case, range(n_rows)) if estimator.fits(case)]
    if not cases:
        return
    truths = [estimator.truth(case) for case in cases]
    n_background = len(cases[0].game.background.rows)
    for stop, label, limits in (
        ("8d", "8 d", Limits(0, 8 * family.n_players * n_background)),
        ("32d", "32 d", Limits(0, 32 * family.n_players * n_background)),
        ("tolerance", f"tolerance {family.tolerance:g}", Limits(family.tolerance)),
    ):
        if stop in stops:
            yield _cell(name, estimator, family, cases, truths, n_seeds, label, limits)


def _cell(
    name: str,
    estimator: Estimator,
    family: Family,
    cases: list[Case],
    truths: list[Values],
    n_seeds: int,
    label: str,
    limits: Limits,
) -> Result:
    coverages, variances, deviations, errors = [], [], [], []
    n_exact, n_silent, n_stated = 0, 0, 0
    for case, truth in zip(cases, truths, strict=True):
        runs = [estimator.run(case, seed, limits) for seed in range(n_seeds)]
        n_exact += sum(run.stop_reason == "exact" for run in runs)
        sampled = [run for run in runs if run.stop_reason != "exact"]
        if len(sampled) < 2:
            continue
        values, stated, widths = (
            np.array([column[:, 0] for column in columns])
            for columns in zip(
                *((run.attributions, run.standard_errors, run.half_widths) for run in sampled), strict=True
            )
        )
        scale = sampled[0].scales[0]
        n_silent += int(np.isnan(stated).sum())
        n_stated += int(np.isfinite(stated).sum())
        errors.append(float(np.mean((values - truth) ** 2)) / scale**2)
        whole = np.isfinite(stated).all(axis=1)
        if whole.sum() < 2:
            continue
        values, stated, widths = values[whole], stated[whole], widths[whole]
        coverages.append(float(np.mean(np.abs(values - truth) <= widths + 1e-9 * scale)))
        variances.append(float(np.mean(stated**2)) / scale**2)
        deviations.append(float(np.mean(values.var(axis=0, ddof=1))) / scale**2)
    means = np.array(coverages) if coverages else np.array([np.nan])
    rng = np.random.default_rng(0)
    resampled = rng.choice(means, (RESAMPLES, len(means))).mean(axis=1)
    return Result(
        estimator=name,
        family=family.name,
        limits=label,
        exact_part=n_exact / (n_seeds * len(cases)),
        silent_part=n_silent / max(n_silent + n_stated, 1),
        error=math.sqrt(float(np.mean(errors))) if errors else 0.0,
        coverage=float(means.mean()),
        interval=(float(np.quantile(resampled, 0.025)), float(np.quantile(resampled, 0.975))),
        ratio=math.sqrt(sum(variances) / sum(deviations)) if coverages else math.nan,
    )


def _game(evaluate: Evaluate, row: NDArray[np.float64], background: NDArray[np.float64]) -> Game:
    reference = Background.of(background.astype(np.float32), evaluate)
    return Game(evaluate, row.astype(np.float32), reference, feature_players(len(row)))


def _slopes(case: Case) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    if case.slopes is None:
        raise ValueError("expected a case with slopes; received one without. Ask `fits` first.")
    return case.slopes


def _row(result: Result) -> list[str]:
    if result.exact_part == 1:
        return [result.estimator, result.family, result.limits, "100 %", "", "0", "", "", "", "exact"]
    low, high = result.interval
    return [
        result.estimator,
        result.family,
        result.limits,
        f"{result.exact_part:.0%}",
        f"{result.silent_part:.0%}",
        f"{result.error:.4f}",
        f"{result.coverage:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{result.ratio:.2f}",
        "silent" if result.silent_part == 1 else "pass" if result.passed else "FAIL",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("estimators", nargs="*", metavar="ESTIMATOR", help=f"of {', '.join(ESTIMATORS)}; default: all")
    games = [family.name for family in FAMILIES]
    parser.add_argument("--games", nargs="+", choices=games, default=games)
    parser.add_argument("--stops", nargs="+", choices=STOPS, default=STOPS)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=40)
    arguments = parser.parse_args()
    names = arguments.estimators or list(ESTIMATORS)
    if unknown := sorted(set(names) - set(ESTIMATORS)):
        parser.error(f"expected estimators of {', '.join(ESTIMATORS)}. Received: {', '.join(unknown)}")
    machine = describe_machine()
    results = []
    for name in names:
        for family in FAMILIES:
            if family.name not in arguments.games:
                continue
            measured = measure(name, ESTIMATORS[name], family, arguments.rows, arguments.seeds, arguments.stops)
            for result in measured:
                sys.stderr.write(" | ".join(_row(result)) + "\n")
                results.append(result)
    header = [
        "estimator",
        "game",
        "stop",
        "exact",
        "silent",
        "error / S",
        "coverage",
        "95 % interval",
        "stated / made",
        "",
    ]
    print(f"{machine}\n\n{markdown_table(header, [_row(result) for result in results])}")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
