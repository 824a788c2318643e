"""How each specification in docs/training.md's examples does: its result, and the seconds of its job by step.

`python -m benchmarks.kinds_of_data [KIND ...]` starts `vitrine up` in a temporary folder, writes the data sets that the
examples name (`benchmarks/made_data.py`), sends each specification as it stands in the document to `POST /train` (the
import to `POST /models/{m}/versions`), one after the other, and prints a table. It ends with status 1 where a job fails
or a version does not pass its gates.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.latency import free_port, stop, wait_until_ready
from benchmarks.made_data import FILES
from benchmarks.tables import describe_machine, markdown_table
from vitrine import Client

DOCUMENT = Path(__file__).parents[1] / "docs" / "training.md"
SECTION = "## Examples, with their results"
IMPORT = "An imported .keras"
"""The example that is no training: its file is made here."""
STEPS = ("loading", "fitting", "evaluating", "explaining", "registering", "gating")
READY_SECONDS, REQUEST_SECONDS, PATIENCE_SECONDS = 300, 300, 3600
"""Long, so that a loaded machine ends nothing."""


@dataclass(frozen=True, slots=True)
class Example:
    """A kind of data, and the specification that stands in the document for it."""

    kind: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an example.

    Attributes:
        job, card: documents of the API; the card is empty where the job failed.
        seconds: of each step, from the moment that it was reported; of "waiting", until the first one was.
        load: of the last minute, when it was sent.
    """

    example: Example
    job: dict[str, Any]
    card: dict[str, Any]
    seconds: dict[str, float]
    load: float

    @property
    def succeeded(self) -> bool:
        return self.job["status"] == "succeeded" and self.job["promoted"] is True


def examples(document: Path = DOCUMENT) -> list[Example]:
    """The specifications of the document's section of examples, by the heading that each stands under."""
    section = document.read_text().partition(SECTION)[2].partition("\n## ")[0]
    found = re.findall(r"^### (.+?)\n.*?^```json\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return [Example(kind.replace("`", ""), json.loads(spec)) for kind, spec in found]


@contextmanager
def server(home: Path) -> Iterator[Client]:
    """`vitrine up` on a home in which the files of the examples lie, until the block ends."""
    (home / "data").mkdir(parents=True)
    for name, write in FILES.items():
        write(home / "data" / name)
    port = free_port()
    command = [sys.executable, "-m", "service", "up", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, f"{url}/health/live", READY_SECONDS)
        with Client(url, timeout_seconds=REQUEST_SECONDS) as client:
            yield client
    finally:
        stop(process)


def run(client: Client, example: Example, folder: Path) -> Result:
    """Sends an example, follows its job to the end, and reads the version's card."""
    load, sent = os.getloadavg()[0], monotonic()
    name = example.spec["model"]
    if example.kind == IMPORT:
        asked = {key: value for key, value in example.spec.items() if key != "model"}
        job = client.import_version(name, write_keras_file(folder / "own.keras"), asked)
    else:
        job = client.train(example.spec)
    began = {"waiting": sent}
    for event in client.events(job["job"], patience_seconds=PATIENCE_SECONDS):
        if event.event == "progress":
            began.setdefault(event.data["step"], monotonic())
    job = client.job(job["job"])
    ends = [*began.values(), monotonic()][1:]
    seconds = {step: end - start for (step, start), end in zip(began.items(), ends, strict=True)}
    card = client.card(name, job["version"]) if job["version"] else {}
    return Result(example, job, card, seconds, load)


def write_keras_file(path: Path) -> Path:
    """A classifier of wines as a person would have made it: plain Keras, fitted on the rows outside the test part."""
    import keras

    from models.datasets import load_builtin, split_dataset

    wine = load_builtin("wine")
    split = split_dataset(wine, test=0.2, validation=0.2)
    keras.utils.set_random_seed(0)
    scaling = keras.layers.Normalization()
    scaling.adapt(wine.inputs[split.train])
    model = keras.Sequential(
        [
            keras.Input((wine.inputs.shape[1],)),
            scaling,
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    model.fit(wine.inputs[split.train], wine.targets[split.train], epochs=40, verbose=0)  # pyright: ignore[reportArgumentType]
    model.save(path)
    return path


def main_metric(evaluation: dict[str, Any]) -> str:
    """The metric that is shown, as the version's evaluation compares it with its baselines."""
    if "r2" in evaluation["metrics"]:
        return "r2"
    return "roc_auc" if len(evaluation["per_label"]) == 2 else "accuracy"


def figures(result: Result) -> list[str]:
    """A line of the table of results."""
    if not result.card:
        return [result.example.kind, *[""] * 4, result.job["status"]]
    evaluation = result.card["evaluation"]
    metric = main_metric(evaluation)
    boosting = evaluation["baselines"]["gradient_boosting"]["metrics"][metric]
    interval = evaluation["intervals"][metric]
    words = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    rows = result.card["data"]["rows"]
    passed = [f"{gate['gate']} {'passed' if gate['passed'] else 'FAILED'}" for gate in result.job["gates"]]
    return [
        result.example.kind,
        f"{sum(rows.values()) if isinstance(rows, dict) else rows:,}",
        f"{evaluation['rows']:,}",
        f"{metric} {evaluation['metrics'][metric]:.3f}{words}",
        f"{boosting:.3f}",
        ", ".join(passed) or "none",
    ]


def times(result: Result) -> list[str]:
    """A line of the table of seconds."""
    by_step = [f"{result.seconds[step]:.1f}" if step in result.seconds else "" for step in ("waiting", *STEPS)]
    return [result.example.kind, *by_step, f"{sum(result.seconds.values()):.1f}", f"{result.load:.1f}"]


def tables(results: Sequence[Result]) -> str:
    header = ["kind of data", "rows", "test rows", "network (95 % interval)", "gradient boosting", "gates"]
    second = ["seconds of the job", "waiting", *STEPS, "together", "load before"]
    quality = markdown_table(header, [figures(result) for result in results])
    return f"{quality}\n\n{markdown_table(second, [times(result) for result in results])}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [example.kind for example in examples()]
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {'; '.join(kinds)}. Default: all")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.kinds) - set(kinds)):
        parser.error(f"expected kinds of {'; '.join(kinds)}. Received: {'; '.join(unknown)}")
    machine, results = describe_machine(), []
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "home") as client:
        for example in examples():
            if not arguments.kinds or example.kind in arguments.kinds:
                sys.stderr.write(f"{example.kind} ...\n")
                results.append(run(client, example, Path(folder)))
                sys.stderr.write(f"  {'; '.join(figures(results[-1])[1:])}\n")
                if results[-1].job["error"]:
                    sys.stderr.write(f"{json.dumps(results[-1].job['error'], indent=1)}\n")
    print(f"{machine}\n\n{tables(results)}")
    return 0 if all(result.succeeded for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
