"""What the fidelity checks say of each method on the demo models, of wrong explainers, and how long they take.

`python -m benchmarks.fidelity [MODEL ...]` builds the demo models (`--home`: taken from there, or kept there) and
prints one table per model. It ends with status 1 when a right explainer fails, a wrong one passes, or the checks of a
right one take longer than a gate may: 30 s for columns, 120 s for images.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import describe_machine, markdown_table
from explain.attribution import Estimate
from explain.exact import exact
from explain.fidelity.checking import check_fidelity
from explain.fidelity.ordering import edge_attributions
from explain.fidelity.randomization import randomized_weights
from explain.fidelity.report import FidelityReport
from explain.fidelity.subject import Explain, Subject
from explain.game import Background, Game
from explain.gradients import Gradient, KerasGradient, expected_gradients
from explain.limits import Limits
from explain.players import feature_players, pixel_players
from explain.regression import kernel
from explain.running import of_targets
from models.artifact import Artifact, open_artifact
from models.building import Reporter, build_version
from models.datasets import split_dataset
from models.demos import DEMO_SPECS
from models.inference import keras_outputs
from models.loading import load_dataset
from models.outputs import target_model
from models.spec import TrainingSpec, parse_spec
from service.serving.engine import SLICE_ROWS, OnnxEngine

SEED = 0
GATE_SECONDS = {"columns": 30.0, "image": 120.0}
GATE_ROWS = {"columns": 32, "image": 8}
KERNEL_TOLERANCE = 0.05
PATH_TOLERANCE = 0.02
GRADIENT_SLICE_ROWS = 256
Change = Callable[[Game, NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Result:
    """One explainer on one model."""

    explainer: str
    right: bool
    report: FidelityReport
    seconds: float
    cpu_seconds: float


def by_exact(game: Game, targets: Sequence[int], seed: int) -> Estimate:  # noqa: ARG001
    return of_targets(exact(game, slice_rows=SLICE_ROWS), tuple(targets))


def by_kernel(game: Game, targets: Sequence[int], seed: int) -> Estimate:
    return kernel(game, targets, seed=seed, limits=Limits(KERNEL_TOLERANCE), slice_rows=SLICE_ROWS)


def by_expected_gradients(gradient: Gradient, game: Game, targets: Sequence[int], seed: int) -> Estimate:
    return expected_gradients(game, gradient, targets, seed=seed, limits=Limits(PATH_TOLERANCE))


def changed(explain: Explain, change: Change) -> Explain:
    """An explainer whose attributions are spoilt, and which claims of them what was true of the right ones."""

    def spoilt(game: Game, targets: Sequence[int], seed: int) -> Estimate:
        estimate = explain(game, targets, seed)
        return replace(estimate, attributions=change(game, estimate.attributions))

    return spoilt


def shuffled(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:
    return _rng_of(game).permutation(attributions)


def flipped(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ARG001
    return -attributions


def random_parts(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise of the right size that adds up."""
    return _adding_up(_rng_of(game).normal(size=attributions.shape), attributions)


def edges(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Sobel edge map, scaled to add up."""
    return _adding_up(np.repeat(edge_attributions(game)[:, np.newaxis], attributions.shape[1], axis=1), attributions)


def _adding_up(values: NDArray[np.float64], attributions: NDArray[np.float64]) -> NDArray[np.float64]:
    values = values * np.abs(attributions).mean(axis=0) / (np.abs(values).mean(axis=0) + 1e-12)
    return values + (attributions.sum(axis=0) - values.sum(axis=0)) / len(values)


def _rng_of(game: Game) -> np.random.Generator:
    return np.random.default_rng(game.row.view(np.uint32).reshape(-1))


WRONG: dict[str, Change] = {"shuffled": shuffled, "sign flipped": flipped, "random, adding up": random_parts}


def measure(name: str, folder: Path) -> Iterator[Result]:
    """All explainers on one demo model, right ones first."""
    spec = parse_spec(DEMO_SPECS[name])
    if not folder.exists():
        sys.stderr.write(f"fitting {name} ...\n")
        build_version(spec, folder, Reporter())
    artifact = open_artifact(folder)
    signature = artifact.signature
    kind = "image" if signature.image else "columns"
    rows = test_rows(spec, GATE_ROWS[kind])
    output = signature.outputs[0]
    assert artifact.onnx_path is not None
    engine = OnnxEngine(artifact.onnx_path, signature, threads=os.cpu_count() or 1, keep_memory=True)
    evaluate = partial(engine.evaluate, output=output)
    references, weights = artifact.background
    players = pixel_players(rows.shape[1:]) if signature.image else feature_players(rows.shape[1])
    blocks = block_players(rows.shape[1:]) if signature.image else players
    background = Background.of(references, evaluate, weights)
    gradient = _gradient(artifact, artifact.load_keras())
    paths = partial(by_expected_gradients, gradient)
    blind_model = artifact.load_keras()
    random_weights = randomized_weights([weight.numpy() for weight in blind_model.trainable_variables], seed=SEED)
    for variable, values in zip(blind_model.trainable_variables, random_weights, strict=True):
        variable.assign(values)
    blind_paths = partial(by_expected_gradients, _gradient(artifact, blind_model))
    blind_calls = keras_outputs(blind_model, signature)[output]
    blind_background = Background.of(references, blind_calls, weights)

    explainers: list[tuple[str, bool, Explain, Explain, bool]] = []
    if len(players.reshape(-1)) <= 10:
        explainers.append(("exact", True, by_exact, by_exact, True))
    explainers.append(("kernel", True, by_kernel, by_kernel, True))
    explainers.append(("expected-gradients", True, paths, blind_paths, False))
    wrong = WRONG | ({"Sobel, adding up": edges} if signature.image else {})
    spoilt: list[tuple[str, Explain, Explain, bool]] = [("expected-gradients", paths, blind_paths, False)]
    if signature.image is None:
        spoilt.insert(0, ("kernel", by_kernel, by_kernel, True))
    explainers += [
        (f"{label}, {what}", False, changed(explain, change), changed(blind, change), sees_only_game)
        for label, explain, blind, sees_only_game in spoilt
        for what, change in wrong.items()
    ]
    for label, right, explain, blind, sees_only_game in explainers:
        owned = blocks if sees_only_game else players
        subject = Subject(evaluate, background, owned, explain, sees_only_game, path_tolerance=PATH_TOLERANCE)
        randomized = Subject(blind_calls, blind_background, owned, blind, sees_only_game)
        other = by_kernel if label == "exact" else paths
        if label == "expected-gradients":
            other = None if signature.image else by_kernel
        started, cpu_started = perf_counter(), process_time()
        report = check_fidelity(subject, rows, other=other if right else None, randomized=randomized, seed=SEED)
        result = Result(label, right, report, perf_counter() - started, process_time() - cpu_started)
        sys.stderr.write(f"{name}: {' | '.join(_row(result))}\n")
        yield result


def test_rows(spec: TrainingSpec, n_rows: int) -> NDArray[np.float32]:
    """The first rows of the test part."""
    dataset = load_dataset(spec)
    split = split_dataset(dataset, test=spec.split.test, validation=spec.split.validation, by=spec.split.by)
    return np.ascontiguousarray(dataset.inputs[split.test[:n_rows]], dtype=np.float32)


def block_players(row_shape: tuple[int, ...]) -> NDArray[np.intp]:
    """A player for each block of 2 x 2 pixels: what Shapley values of an image can be had for in seconds."""
    height, width, channels = row_shape
    numbers = np.arange(height)[:, np.newaxis] // 2 * ((width + 1) // 2) + np.arange(width) // 2
    return np.repeat(numbers[..., np.newaxis], channels, axis=2)


def _gradient(artifact: Artifact, model: Any) -> Gradient:
    signature = artifact.signature
    return KerasGradient(target_model(model, signature, signature.outputs[0]), GRADIENT_SLICE_ROWS)


FIGURES = (
    "independent-error",
    "margin-over-random",
    "margin-over-edges",
    "randomization",
    "entropy-rise",
    "mu-fidelity",
    "infidelity",
    "max-sensitivity",
    "background-stability",
    "disagreement",
)


def _row(result: Result) -> list[str]:
    figures = [result.report.of(check).value for check in FIGURES]
    failed = [finding.check for finding in result.report.findings if finding.verdict == "fail"]
    cells = ["" if np.isnan(figure) else f"{figure:.2f}" for figure in figures]
    return [result.explainer, *cells, f"{result.seconds:.1f}", f"{result.cpu_seconds:.1f}", ", ".join(failed) or "none"]


def _as_wanted(result: Result, limit_seconds: float) -> bool:
    in_time = result.seconds <= limit_seconds or not result.right
    return result.report.passed == result.right and in_time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(DEMO_SPECS)}; default: all")
    parser.add_argument("--home", type=Path, help="where built models are taken from and kept")
    arguments = parser.parse_args()
    names = arguments.models or list(DEMO_SPECS)
    if unknown := sorted(set(names) - set(DEMO_SPECS)):
        parser.error(f"expected models of {', '.join(DEMO_SPECS)}. Received: {', '.join(unknown)}")
    print(describe_machine())
    as_wanted = True
    with nullcontext(arguments.home) if arguments.home else tempfile.TemporaryDirectory() as home:
        for name in names:
            kind = "image" if name == "digits" else "columns"
            results = list(measure(name, Path(home) / name))
            as_wanted &= all(_as_wanted(result, GATE_SECONDS[kind]) for result in results)
            print(f"\n### {name}\n")
            print(
                markdown_table([name, *FIGURES, "seconds", "CPU s", "failed"], [_row(result) for result in results]),
                flush=True,
            )
    return 0 if as_wanted else 1


if __name__ == "__main__":
    raise SystemExit(main())
