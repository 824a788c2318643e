"""What expected gradients cost and how exact they are, beside shap's GradientExplainer and the bare gradient engine.

Game and gradient are the engines that serve: the exports of the networks.

`python -m benchmarks.gradients [speed|memory|deadline|nodes ...]` prints markdown tables, measured in one run.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import describe_machine, markdown_table
from explain.attribution import Estimate
from explain.game import Background, Game
from explain.gradients import expected_gradients
from explain.limits import Limits
from explain.paths import REPLICATES
from explain.players import feature_players, pixel_players
from models import artifact
from models.builtins import load_bunch
from models.export import export_onnx
from models.gradient_export import export_gradients
from models.onnx_gradient import OnnxGradient
from models.outputs import target_model
from models.signature import Feature, Signature
from service.serving.engine import OnnxEngine

N_ROWS = 4
SHAP_SAMPLES = 200
REFERENCE_SAMPLES = 100_000


@dataclass(frozen=True)
class Case:
    """A model with rows to explain."""

    name: str
    model: Any
    gradient: OnnxGradient
    background: Background
    rows: NDArray[np.float32]
    evaluate: Callable[[Any], Any]

    def game(self, row: NDArray[np.float32]) -> Game:
        players = pixel_players(row.shape) if row.ndim == 3 else feature_players(len(row))
        return Game(self.evaluate, row, self.background, players)

    def explain(self, row: NDArray[np.float32], targets: list[int], **limits: Any) -> Estimate:
        given = {"tolerance": 0.0, **limits}
        return expected_gradients(
            self.game(row), self.gradient, targets, seed=given.pop("seed", 0), limits=Limits(**given)
        )


def digits() -> Case:
    """A convolutional network of the demo's size, fitted for a few epochs: speed does not ask how well it reads."""
    import keras
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rows = images.reshape(-1, 8, 8, 1).astype(np.float32)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Rescaling(1 / 16)(inputs)
    for block, width in enumerate((32, 64)):
        if block:
            hidden = layers.MaxPooling2D()(hidden)
        hidden = layers.Conv2D(width, 3, padding="same", activation="relu")(hidden)
        hidden = layers.Conv2D(width, 3, padding="same", activation="relu")(hidden)
    hidden = layers.Dense(128, activation="relu")(layers.Flatten()(hidden))
    image = Feature("image", "image", (8, 8, 1), (0.0, 16.0))
    return _case("digits, CNN 32-64", inputs, hidden, (image,), rows, labels)


def breast_cancer() -> Case:
    """A network of two dense layers on thirty columns, and one sigmoid unit for two labels."""
    import keras

    bunch = load_bunch("breast_cancer")
    columns, labels = bunch.data, bunch.target
    rows = ((columns - columns.mean(0)) / columns.std(0)).astype(np.float32)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((30,))
    hidden = keras.layers.Dense(32, activation="relu")(inputs)
    hidden = keras.layers.Dense(16, activation="relu")(hidden)
    features = tuple(Feature(f"column {i}", "numeric", (), (-10.0, 10.0)) for i in range(30))
    return _case("breast-cancer, MLP 32-16", inputs, hidden, features, rows, labels)


def _case(
    name: str, inputs: Any, hidden: Any, features: tuple[Feature, ...], rows: NDArray[np.float32], labels: Any
) -> Case:
    import keras

    signature = Signature(features, "classification", "label", tuple(map(str, range(int(labels.max()) + 1))))
    n_units = signature.n_network_outputs
    logits = keras.layers.Dense(n_units, name="logit")(hidden)
    model = keras.Model(inputs, keras.layers.Activation("softmax" if n_units > 1 else "sigmoid", name="output")(logits))
    model.compile("adam", "sparse_categorical_crossentropy" if n_units > 1 else "binary_crossentropy")
    model.fit(rows[200:], labels[200:], epochs=4, batch_size=32, verbose=0)  # pyright: ignore[reportArgumentType]
    background = rows[200:300]
    with TemporaryDirectory() as folder:
        path = Path(folder) / artifact.ONNX
        exported = export_onnx(model, signature, path, rows[:400], background=background)
        report = export_gradients(model, signature, Path(folder), rows[:400], background=background)
        assert exported.reason is report.reason is None, (exported.reason, report.reason)
        assert report.call_rows is not None
        threads = os.cpu_count() or 1
        engine = OnnxEngine(path, signature, threads=threads, keep_memory=True)
        gradient = OnnxGradient(
            (Path(folder) / artifact.GRADIENT.format(output="probability")).read_bytes(),
            signature,
            "probability",
            call_rows=report.call_rows,
            fills=False,
            threads=threads,
        )
    evaluate = partial(engine.evaluate, output="probability")
    seen_by_shap = target_model(model, signature, "probability")
    return Case(name, seen_by_shap, gradient, Background.of(background, evaluate), rows[:N_ROWS], evaluate)


def median_ms(call: Callable[[], Any], seconds: float = 4.0) -> float:
    call()
    times: list[float] = []
    ends = perf_counter() + seconds
    while perf_counter() < ends or len(times) < 3:
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return float(np.median(times)) * 1000


def speed(case: Case) -> list[list[str]]:
    """Same samples, and equal error against a reference of 100,000 samples."""
    import keras
    import shap

    explainer = shap.GradientExplainer(keras.Model(case.model.inputs, case.model.outputs[0]), case.background.rows)
    n_targets = case.model.outputs[0].shape[-1]
    row = case.rows[0]
    top = int(case.game(row).value.argmax())

    def theirs(samples: int, seed: int = 0, ranked: int | None = 1) -> Any:
        answer = explainer.shap_values(row[np.newaxis], nsamples=samples, ranked_outputs=ranked, rseed=seed)
        return np.asarray(answer[0] if ranked else answer).reshape(-1, ranked or n_targets)

    ours_ms = median_ms(lambda: case.explain(row, [top], budget=SHAP_SAMPLES))
    all_ms = median_ms(lambda: case.explain(row, list(range(n_targets)), budget=SHAP_SAMPLES * n_targets))
    shap_ms = median_ms(lambda: theirs(SHAP_SAMPLES))
    shap_all_ms = median_ms(lambda: theirs(SHAP_SAMPLES, ranked=None), 8.0)
    points = np.repeat(row[np.newaxis], SHAP_SAMPLES, axis=0)
    slices = np.split(points, range(case.gradient.slice_rows, SHAP_SAMPLES, case.gradient.slice_rows))
    bare_ms = median_ms(lambda: [case.gradient(part, np.full(len(part), top, np.int32)) for part in slices])

    reference = case.explain(row, [top], budget=REFERENCE_SAMPLES, seed=99)
    truth = reference.attributions[:, 0]

    def error(found: Any) -> float:
        return float(np.linalg.norm(found.reshape(-1) - truth) / np.linalg.norm(truth))

    shap_error = float(np.median([error(theirs(SHAP_SAMPLES * 5, seed)) for seed in range(5)]))
    budget, ours_error = 2 * REPLICATES, np.inf
    while ours_error > shap_error:
        budget *= 2
        errors = [error(case.explain(row, [top], budget=budget, seed=seed).attributions) for seed in range(5)]
        ours_error = float(np.median(errors))
    equal_ms = median_ms(lambda: case.explain(row, [top], budget=budget))
    shap_equal_ms = median_ms(lambda: theirs(SHAP_SAMPLES * 5))
    return [
        [
            case.name,
            "200 samples, predicted",
            f"{ours_ms:.1f}",
            f"{bare_ms:.1f}",
            f"{shap_ms:.1f}",
            f"{shap_ms / ours_ms:.1f}x",
        ],
        [
            "",
            f"200 samples, all {n_targets}",
            f"{all_ms:.1f}",
            "",
            f"{shap_all_ms:.1f}",
            f"{shap_all_ms / all_ms:.1f}x",
        ],
        [
            "",
            f"equal error: {budget} to 1,000 samples ({ours_error:.3f}, {shap_error:.3f})",
            f"{equal_ms:.1f}",
            "",
            f"{shap_equal_ms:.1f}",
            f"{shap_equal_ms / equal_ms:.1f}x",
        ],
    ]


def memory(case: Case) -> list[list[str]]:
    """Resident memory after a run, and after one of 64 times the samples."""
    base = REPLICATES * len(case.background.rows)
    found = []
    for times in (1, 64):
        case.explain(case.rows[0], [0], budget=base * times)
        gc.collect()
        found.append(_resident_mib())
    return [[case.name, f"{base:,}", f"{found[0]:.0f}", f"{base * 64:,}", f"{found[1]:.0f}"]]


def _resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


class Clock:
    """A deadline as the service keeps it: the next round is begun where the pace so far lets it end in time."""

    def __init__(self, deadline_ms: float) -> None:
        self._started, self._deadline_ms = perf_counter(), deadline_ms
        self._evaluations = self._next = 0

    def may_go_on(self, evaluations: int) -> bool:
        self._evaluations += self._next or evaluations
        self._next = evaluations
        elapsed_ms = (perf_counter() - self._started) * 1000
        return elapsed_ms * (1 + evaluations / self._evaluations) <= self._deadline_ms


def deadline(case: Case) -> list[list[str]]:
    """How late 100 explanations end that would go on for ever, for one target and for all."""
    found = []
    n_targets = case.model.outputs[0].shape[-1]
    for targets in ([0], list(range(n_targets))):
        for deadline_ms in (50, 200):
            took = []
            for i in range(100):
                started = perf_counter()
                case.explain(case.rows[i % N_ROWS], targets, may_go_on=Clock(deadline_ms).may_go_on, seed=i)
                took.append((perf_counter() - started) * 1000)
            kept = int(np.sum(np.array(took) <= deadline_ms + max(10, 0.1 * deadline_ms)))
            quantiles = [f"{value:.0f}" for value in np.quantile(took, [0.5, 0.95])]
            found.append([case.name, str(len(targets)), str(deadline_ms), *quantiles, f"{kept} of 100"])
    return found


def nodes(case: Case) -> list[list[str]]:
    """Errors by positions on each path: relative L2 to a long run, and whether the stated errors are of that size."""
    top = [int(case.game(row).value.argmax()) for row in case.rows]
    base = REPLICATES * len(case.background.rows)
    references = [
        case.explain(row, [target], budget=base * 256, seed=99) for row, target in zip(case.rows, top, strict=True)
    ]
    found = []
    for positions in (1, 2, 4, 8, 16):
        errors, stated = [], []
        for row, target, reference in zip(case.rows, top, references, strict=True):
            norm = np.linalg.norm(reference.attributions)
            for seed in range(3):
                estimate = case.explain(row, [target], budget=base * positions, seed=seed)
                errors.append(np.linalg.norm(estimate.attributions - reference.attributions) / norm)
                stated.append(np.linalg.norm(estimate.standard_errors) / norm)
        rms, claimed = (float(np.sqrt(np.mean(np.square(values)))) for values in (errors, stated))
        found.append([case.name, str(positions), f"{base * positions:,}", f"{rms:.2e}", f"{claimed / rms:.2f}"])
    return found


TABLES: dict[str, tuple[Callable[[Case], list[list[str]]], list[str]]] = {
    "speed": (speed, ["model", "what", "ours, ms", "bare gradient, ms", "shap, ms", "shap / ours"]),
    "memory": (memory, ["model", "samples", "peak RSS, MiB", "samples", "peak RSS, MiB"]),
    "deadline": (deadline, ["model", "targets", "deadline, ms", "p50, ms", "p95, ms", "kept within 10 % or 10 ms"]),
    "nodes": (nodes, ["model", "positions", "evaluations", "relative L2 error", "stated / made"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; default: all")
    chosen = parser.parse_args().tables or list(TABLES)
    if unknown := sorted(set(chosen) - set(TABLES)):
        parser.error(f"expected tables of {', '.join(TABLES)}. Received: {', '.join(unknown)}")
    print(describe_machine(), flush=True)
    cases = [breast_cancer(), digits()]
    for name in chosen:
        measure, header = TABLES[name]
        rows = [row for case in cases for row in measure(case)]
        print(f"\n{name}\n\n{markdown_table(header, rows)}", flush=True)


if __name__ == "__main__":
    main()
