"""What Shapley values cost beside shap's KernelExplainer when both make the same error.

`python -m benchmarks.against_kernel_explainer [--home DIR] [--rows 4] [--seeds 5]` prints a markdown table. The demo
models on columns are trained first, and kept where a home is named. shap is asked with `l1_reg=False` for the one
output that ours explains, once with Keras' `model.predict` as its function, as its documentation does, and once with
our engine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import describe_machine, markdown_table
from benchmarks.versions import trained_version
from explain.attribution import Estimate
from explain.exact import MAX_PLAYERS, exact
from explain.game import Background, Game
from explain.limits import Limits
from explain.players import feature_players
from explain.regression import kernel
from models.demos import DEMO_SPECS
from models.rows import ModelInput
from service.serving.engine import SLICE_ROWS, OnnxEngine

MODELS = ("diabetes", "breast-cancer")
REFERENCE_COALITIONS = 2**14
"""Behind the truth where coalitions are too many to evaluate all."""
FEWER = 16
"""Coalitions per player that shap is given beside its default, 2 d + 2,048."""
STEP = 1.25
"""By how much our coalitions grow until the error is no larger than shap's."""
EXACT_BELOW = 1e-6

Values = NDArray[np.float64]
"""`(n_players,)`."""


@dataclass(frozen=True)
class Subject:
    """A demo model with rows to explain, each by its predicted output.

    Attributes:
        predict: Keras' own, `(n_rows, n_features)` to `(n_rows, n_units)`.
        engine: `(n_rows, n_features)` to `(n_rows, n_targets)`.
    """

    name: str
    predict: Callable[[ModelInput], NDArray[np.float32]]
    engine: Callable[[ModelInput], NDArray[np.float32]]
    background: Background
    rows: ModelInput

    def game(self, row: ModelInput) -> Game:
        return Game(self.engine, row, self.background, feature_players(len(row)))

    def target(self, row: ModelInput) -> int:
        return int(self.engine(row[np.newaxis])[0].argmax())

    def ours(self, row: ModelInput, coalitions: int, seed: int = 0) -> Estimate:
        """By `kernel`, or by `exact` where all coalitions are asked for."""
        game, target = self.game(row), self.target(row)
        if coalitions >= 2 ** len(row):
            return exact(game, slice_rows=SLICE_ROWS)
        budget = coalitions * len(self.background.rows)
        return kernel(game, [target], seed=seed, limits=Limits(0, budget), slice_rows=SLICE_ROWS)

    def truth(self, row: ModelInput) -> tuple[Values, float]:
        """Shapley values of the predicted output, and their relative error as far as it is known."""
        target = self.target(row)
        if len(row) <= MAX_PLAYERS:
            return self.ours(row, 2 ** len(row)).attributions[:, target], 0.0
        estimate = self.ours(row, REFERENCE_COALITIONS, seed=99)
        values, errors = estimate.attributions[:, 0], estimate.standard_errors[:, 0]
        return values, float(np.linalg.norm(errors) / np.linalg.norm(values))


def subject(name: str, home: Path, n_rows: int) -> Subject:
    """The demo model by this name, trained in a home unless it is there."""
    version, rows = trained_version(DEMO_SPECS[name], home)
    if version.onnx_path is None:
        raise RuntimeError(f"the export of {name} did not agree with Keras, and the engine is what is measured.")
    engine = OnnxEngine(version.onnx_path, version.signature, threads=1, keep_memory=True)
    output = version.signature.outputs[0]
    evaluate = partial(engine.evaluate, output=output)
    keras_model = version.load_keras()
    reference, weights = version.background
    background = Background.of(reference, evaluate, weights)
    return Subject(name, partial(keras_model.predict, verbose=0), evaluate, background, rows[:n_rows])


def shap_values(of: Subject, row: ModelInput, function: Callable[..., Any], n_samples: int, seed: int) -> Values:
    """By shap's KernelExplainer, of one output. Its random numbers are NumPy's global ones."""
    import shap

    explainer = shap.KernelExplainer(function, of.background.rows)
    np.random.seed(seed)
    return np.asarray(explainer.shap_values(row, nsamples=n_samples, l1_reg=False, silent=True)).reshape(-1)


def one_output(of: Subject, target: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`model.predict` and our engine as functions of one output for shap, which hands over float64."""
    units = of.predict(of.rows[:1]).shape[1]
    # One sigmoid unit is the probability of the second label.
    flipped = units == 1 and len(of.background.base_values) == 2 and target == 0

    def by_predict(rows: NDArray[np.floating]) -> NDArray[np.floating]:
        column = of.predict(rows.astype(np.float32))[:, target if units > 1 else 0]
        return 1 - column if flipped else column

    def by_engine(rows: NDArray[np.floating]) -> NDArray[np.floating]:
        return of.engine(rows.astype(np.float32))[:, target]

    return by_predict, by_engine


def lines(of: Subject, n_seeds: int, seconds: float) -> Iterator[list[str]]:
    """Of one model: a line for each number of coalitions that shap is given."""
    d = of.rows.shape[1]
    truths = [of.truth(row) for row in of.rows]

    def error(found: Callable[[ModelInput, int], Values]) -> float:
        errors = [
            np.linalg.norm(found(row, seed) - truth) / np.linalg.norm(truth)
            for row, (truth, _) in zip(of.rows, truths, strict=True)
            for seed in range(n_seeds)
        ]
        return float(np.median(errors))

    def ours(row: ModelInput, seed: int, coalitions: int) -> Values:
        attributions = of.ours(row, coalitions, seed).attributions
        return attributions[:, 0 if attributions.shape[1] == 1 else of.target(row)]

    def theirs(row: ModelInput, seed: int, n_samples: int) -> Values:
        return shap_values(of, row, one_output(of, of.target(row))[1], n_samples, seed)

    for given in (FEWER * d, min(2 * d + 2048, 2**d - 2)):
        shap_error = error(partial(theirs, n_samples=given))
        coalitions, our_error = min(max(4 * d, given // 16), 2**d), np.inf
        while our_error > max(shap_error, EXACT_BELOW):
            coalitions = min(int(coalitions * STEP), 2**d)
            our_error = error(partial(ours, coalitions=coalitions))
        doubt = max(doubt for _, doubt in truths)
        yield [
            f"{of.name}, {d} columns",
            f"{given:,}",
            f"{shap_error:.1e}",
            "all" if coalitions == 2**d else f"{coalitions:,}",
            f"{our_error:.1e}" if doubt == 0 else f"{our_error:.1e} (truth {doubt:.0e})",
            *_times(of, of.rows[0], given, coalitions, seconds),
        ]


def _times(of: Subject, row: ModelInput, n_samples: int, coalitions: int, seconds: float) -> list[str]:
    """Of the bare engine on our rows, of ours, and of shap on our engine and on `model.predict`, with their ratios."""
    by_predict, by_engine = one_output(of, of.target(row))
    rows = np.repeat(row[np.newaxis], coalitions * len(of.background.rows), axis=0)
    bare_ms = median_ms(lambda: _in_slices(of, rows), seconds)
    ours_ms = median_ms(lambda: of.ours(row, coalitions), seconds)
    engine_ms = median_ms(lambda: shap_values(of, row, by_engine, n_samples, 0), seconds)
    predict_ms = median_ms(lambda: shap_values(of, row, by_predict, n_samples, 0), seconds)
    return [
        f"{bare_ms:.1f}",
        f"{ours_ms:.1f}",
        f"{engine_ms:.1f}",
        f"{engine_ms / ours_ms:.1f}x",
        f"{predict_ms:.0f}",
        f"{predict_ms / ours_ms:.0f}x",
    ]


def median_ms(call: Callable[[], Any], seconds: float) -> float:
    """Of as many calls as fit, and of one where it takes longer."""
    times: list[float] = []
    ends = perf_counter() + seconds
    while perf_counter() < ends or not times:
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return float(np.median(times)) * 1000


def _in_slices(of: Subject, rows: ModelInput) -> None:
    for start in range(0, len(rows), SLICE_ROWS):
        of.engine(rows[start : start + SLICE_ROWS])


HEADER = [
    "model",
    "shap's coalitions",
    "its error",
    "ours",
    "error",
    "bare engine, ms",
    "ours, ms",
    "shap on our engine, ms",
    "shap / ours",
    "shap on model.predict, ms",
    "shap / ours",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="where trained models are kept; default: a temporary folder")
    parser.add_argument("--rows", type=int, default=4, help="rows of the test part over which errors are taken")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each timing")
    options = parser.parse_args()
    machine = describe_machine()
    folder = nullcontext(options.home) if options.home else tempfile.TemporaryDirectory()
    with folder as home:
        found = []
        for name in MODELS:
            for line in lines(subject(name, Path(home), options.rows), options.seeds, options.seconds):
                sys.stderr.write(" | ".join(line) + "\n")
                found.append(line)
    print(f"{machine}\n\n{markdown_table(HEADER, found)}")


if __name__ == "__main__":
    main()
