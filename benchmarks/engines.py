"""What a call takes by ONNX Runtime, OpenVINO and TensorFlow, and how far OpenVINO's values are from Keras's.

    make openvino
    .venv-openvino/bin/python -m benchmarks.engines [digits breast-cancer resnet50]

prints a markdown table, measured in one run in interleaved rounds, each engine with all cores for a call. Without
OpenVINO its columns are left out. Networks have random weights: nothing is fetched, and time does not depend on them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.tables import describe_machine, markdown_table
from models.cores import usable_cores
from models.differences import largest_difference
from models.export import export_onnx
from models.outputs import target_model
from models.rows import ModelInput
from models.signature import Feature, Signature
from models.training import predict_raw
from service.serving.engine import OnnxEngine
from service.serving.engine_report import Precision
from service.serving.openvino_engine import OpenVinoEngine, is_installed

SIZES = (1, 32)
SECONDS = 4.0
"""Spent on each model and size by each engine, and at least `ROUNDS` calls."""
ROUNDS = 5
COMPARED = 100


@dataclass(frozen=True)
class Case:
    """A network in raw units, with rows that it is asked about."""

    name: str
    model: Any
    signature: Signature
    rows: ModelInput

    @property
    def output(self) -> str:
        return self.signature.outputs[0]


def digits() -> Case:
    """A convolutional network of the demo's size on its images."""
    import keras
    from sklearn.datasets import load_digits

    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Rescaling(1 / 16)(inputs)
    for width in (32, 64):
        hidden = layers.Conv2D(width, 3, padding="same", activation="relu")(hidden)
        hidden = layers.Conv2D(width, 3, padding="same", activation="relu")(hidden)
        hidden = layers.MaxPooling2D()(hidden)
    hidden = layers.Dense(128, activation="relu")(layers.Flatten()(hidden))
    rows = np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, 8, 8, 1)
    return _case("digits, CNN 32-64", inputs, hidden, (Feature("image", "image", (8, 8, 1), (0.0, 16.0)),), 10, rows)


def breast_cancer() -> Case:
    """Two dense layers on thirty columns, as the demo has them."""
    import keras
    from sklearn.datasets import load_breast_cancer

    columns = np.asarray(load_breast_cancer(return_X_y=True)[0])
    rows = (columns - columns.mean(0)) / columns.std(0)
    inputs = keras.Input((30,))
    hidden = keras.layers.Dense(32, activation="relu")(inputs)
    hidden = keras.layers.Dense(16, activation="relu")(hidden)
    features = tuple(Feature(f"column {i}", "numeric", (), (-10.0, 10.0)) for i in range(30))
    return _case("breast-cancer, MLP 32-16", inputs, hidden, features, 2, rows)


def resnet50() -> Case:
    """ResNet50 (He et al. 2015) on noise of 224 x 224 pixels."""
    import keras

    inputs = keras.Input((224, 224, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    applications: Any = keras.applications
    body = applications.ResNet50(include_top=False, weights=None, pooling="avg")
    rows = np.random.default_rng(0).integers(0, 256, (COMPARED, 224, 224, 3))
    image = Feature("image", "image", (224, 224, 3), (0.0, 255.0))
    return _case("ResNet50, 224 x 224", inputs, body(scaled), (image,), 10, rows)


CASES: Mapping[str, Callable[[], Case]] = {"digits": digits, "breast-cancer": breast_cancer, "resnet50": resnet50}


def _case(name: str, inputs: Any, hidden: Any, features: tuple[Feature, ...], n_labels: int, rows: Any) -> Case:
    import keras

    signature = Signature(features, "classification", "label", tuple(map(str, range(n_labels))))
    units = signature.n_network_outputs
    logit = keras.layers.Dense(units, name="logit")(hidden)
    output = keras.layers.Activation("softmax" if units > 1 else "sigmoid", name="output")(logit)
    return Case(name, keras.Model(inputs, output), signature, rows.astype(np.float32))


def measured(case: Case, folder: Path) -> list[list[str]]:
    """The lines of the table for a case."""
    path, cores = folder / "model.onnx", usable_cores()
    exported = export_onnx(case.model, case.signature, path, case.rows[:COMPARED])
    if exported.reason is not None:
        sys.exit(f"{case.name} is not exported: {exported.reason}")
    onnx = OnnxEngine(path, case.signature, threads=cores, keep_memory=True)
    calls: dict[str, Callable[[ModelInput], Any]] = {
        "TensorFlow": _compiled(case),
        "ONNX Runtime": lambda rows: onnx.evaluate(rows, case.output),
    }
    errors = {}
    for precision in PRECISIONS if is_installed() else ():
        name = f"OpenVINO {precision}"
        engine = OpenVinoEngine(path, case.signature, threads=cores, lanes=1, precision=precision)
        if engine.precision == precision:
            calls[name] = lambda rows, engine=engine: engine.evaluate(rows, case.output)
            errors[name] = _error(case, engine)
    lines = []
    for size in SIZES:
        times = _interleaved_ms(calls, case.rows[:size])
        lines.append(
            [
                case.name,
                str(size),
                *(f"{times[name]:.3g}" if name in times else "-" for name in ENGINES),
                *(f"{errors[name]:.1g}" if name in errors else "-" for name in ENGINES[2:]),
            ]
        )
    return lines


PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
ENGINES = ("TensorFlow", "ONNX Runtime", "OpenVINO float32", "OpenVINO bfloat16")


def _compiled(case: Case) -> Callable[[ModelInput], Any]:
    import tensorflow as tf

    network = target_model(case.model, case.signature, case.output)
    function = tf.function(lambda rows: network(rows, training=False), autograph=False)
    return lambda rows: function(tf.constant(rows)).numpy()


def _error(case: Case, engine: OpenVinoEngine) -> float:
    """The largest difference of any output from Keras's, as a part of its spread."""
    rows = case.rows[:COMPARED]
    found = []
    for output in case.signature.outputs:
        expected = predict_raw(target_model(case.model, case.signature, output), rows)
        found.append(largest_difference(engine.evaluate(rows, output), expected, expected))
    return max(found)


def _interleaved_ms(calls: Mapping[str, Callable[[ModelInput], Any]], rows: ModelInput) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(rows)
    began = perf_counter()
    while perf_counter() - began < SECONDS * len(calls) or len(times["ONNX Runtime"]) < ROUNDS:
        for name, call in calls.items():
            started = perf_counter()
            call(rows)
            times[name].append((perf_counter() - started) * 1000)
    return {name: median(taken) for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="CASE", help=", ".join(CASES))
    chosen = parser.parse_args().cases or list(CASES)
    machine = describe_machine()
    import keras

    lines = []
    for name in chosen:
        keras.utils.set_random_seed(0)
        with TemporaryDirectory() as folder:
            lines += measured(CASES[name](), Path(folder))
    apart = "of an output's spread, largest"
    header = ["model", "rows", *(f"{name}, ms" for name in ENGINES), *(f"{name}, {apart}" for name in ENGINES[2:])]
    print(f"{machine}, {usable_cores()} used\n\n{markdown_table(header, lines)}")


if __name__ == "__main__":
    main()
