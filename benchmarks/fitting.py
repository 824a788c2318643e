"""What an epoch costs: a fit of ours beside plain `model.fit` on the same network, rows and batches.

`python -m benchmarks.fitting [CASE ...] [--rounds N]` prints a markdown table. Each fit runs in a process of its own,
in turns, so that neither profits from what the other has compiled; the first epoch, which compiles, is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.tables import describe_machine, markdown_table

LIMIT = 1.3
CASES: dict[str, dict[str, Any]] = {
    "breast-cancer, mlp": {"dataset": {"builtin": "breast_cancer"}, "training": {"batch_size": 32}},
    "digits, cnn": {"dataset": {"builtin": "digits"}, "training": {"batch_size": 64}},
    "digits, residual cnn, batch normalization": {
        "dataset": {"builtin": "digits"},
        "architecture": {"type": "cnn", "layers": [32, 64], "residual": True, "normalization": "batch"},
        "training": {"batch_size": 64},
    },
    "table of 30,000 rows, mlp": {"table": True, "training": {"batch_size": 64}},
}
EPOCHS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=3, help="fits of each kind, in turns")
    options = parser.parse_args()
    print(describe_machine(), end="\n\n")
    rows = []
    for name in options.cases or CASES:
        figures: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
        for _ in range(options.rounds):
            for kind, held in figures.items():
                held.append(_in_a_process(name, kind))
        rows.append(_row(name, figures))
    header = [
        "case",
        "plain, ms",
        "ours, ms",
        "ratio",
        "verdict",
        "first epoch, plain / ours, s",
        "peak, plain / ours, MiB",
    ]
    print(markdown_table(header, rows))
    sys.exit(any("FAIL" in row for row in rows))


def _row(name: str, figures: dict[str, list[dict[str, float]]]) -> list[str]:
    epoch, first, peak = (
        {kind: median(each[figure] for each in held) for kind, held in figures.items()}
        for figure in ("epoch_seconds", "first_seconds", "peak_mib")
    )
    ratio = epoch["ours"] / epoch["plain"]
    return [
        name,
        f"{1000 * epoch['plain']:.0f}",
        f"{1000 * epoch['ours']:.0f}",
        f"{ratio:.2f}",
        "pass" if ratio <= LIMIT else "FAIL",
        f"{first['plain']:.1f} / {first['ours']:.1f}",
        f"{peak['plain']:.0f} / {peak['ours']:.0f}",
    ]


def _in_a_process(case: str, kind: str) -> dict[str, float]:
    code = "import sys; from benchmarks.fitting import measure; measure(*sys.argv[1:])"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code, case, kind], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: str, kind: str) -> None:
    """Fits one case in this process, and prints what its epochs took and the most memory held."""
    from models.memory import resident_peak_bytes

    seconds = (_plain if kind == "plain" else _ours)(CASES[case])
    figures = {
        "first_seconds": seconds[0],
        "epoch_seconds": median(seconds[1:]),
        "peak_mib": (resident_peak_bytes() or 0) / 2**20,
    }
    print(json.dumps(figures))


def _prepared(case: dict[str, Any]) -> tuple[Any, Any, Any]:
    import numpy as np

    from models.datasets import Dataset, load_builtin, split_dataset
    from models.signature import Feature, Signature
    from models.spec import parse_spec

    training = {**case["training"], "epochs": EPOCHS, "early_stopping": None}
    dataset_key = case.get("dataset", {"builtin": "breast_cancer"})
    document = {"model": "m", "dataset": dataset_key, "training": training}
    spec = parse_spec({**document, **({"architecture": case["architecture"]} if "architecture" in case else {})})
    if "table" in case:
        rng = np.random.default_rng(0)
        inputs = rng.normal(size=(30_000, 20)).astype(np.float32)
        targets = (inputs[:, 0] * inputs[:, 1] + inputs[:, 2] > rng.logistic(size=30_000)).astype(np.int64)
        features = tuple(Feature(f"x{i}", "numeric", (), (-4.0, 4.0)) for i in range(20))
        signature = Signature(features, "classification", "y", ("no", "yes"))
        digests = tuple(np.random.default_rng(i).bytes(32) for i in range(30_000))
        dataset = Dataset(signature, inputs, targets, digests, {})
    else:
        dataset = load_builtin(dataset_key["builtin"])
    return spec, dataset, split_dataset(dataset, test=0.2, validation=0.2)


def _ours(case: dict[str, Any]) -> list[float]:
    """With everything that a job does: checkpoints, statistics of layers, reports."""
    from models.training import fit

    spec, dataset, split = _prepared(case)
    with tempfile.TemporaryDirectory() as folder:
        return list(fit(spec, dataset, split, checkpoints=Path(folder) / "checkpoints").timing.epoch_seconds)


def _plain(case: dict[str, Any]) -> list[float]:
    """The same network, loss and optimizer, given to `model.fit` with its own shuffling and no callback but a clock."""
    import keras

    from models.networks import build_networks
    from models.objectives import loss_of, optimizer_of
    from models.preprocessing import preprocessed

    spec, dataset, split = _prepared(case)
    signature, architecture = dataset.signature, spec.architecture
    assert architecture is not None
    keras.utils.set_random_seed(0)
    inputs = keras.Input(signature.input_shape)
    flat = architecture.type == "mlp"
    prepared = preprocessed(inputs, signature, dataset.inputs[split.train], spec.preprocessing, flat=flat)
    network = build_networks(inputs, prepared, architecture, spec.regularization, signature, scale=(0.0, 1.0)).trained
    network.compile(optimizer=optimizer_of(spec.training), loss=loss_of("auto", 0.0, signature), metrics=["accuracy"])

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's names
            self.since, self.seconds = perf_counter(), []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's names
            now = perf_counter()
            self.seconds.append(now - self.since)
            self.since = now

    clock = Clock()
    rows, held = split.train, split.validation
    network.fit(
        dataset.inputs[rows],
        dataset.targets[rows],
        batch_size=spec.training.batch_size,
        epochs=EPOCHS,
        validation_data=(dataset.inputs[held], dataset.targets[held]),
        validation_batch_size=spec.training.batch_size,
        callbacks=[clock],
        verbose=0,
    )
    return clock.seconds


if __name__ == "__main__":
    main()
