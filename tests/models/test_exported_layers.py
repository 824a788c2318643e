"""Which layers of Keras ONNX Runtime runs: the table in docs/engines.md, made by exporting each of them.

Where the table is to change, `WRITE_DOCUMENTS=1 pytest -m soak tests/models/test_exported_layers.py` writes it.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from pathlib import Path

import keras
import pytest
from layer_catalogue import Kind, kinds

from models.export import ExportReport, export_onnx

DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
BEGIN, END = "<!-- exported layers: begin -->\n", "<!-- exported layers: end -->\n"

NOT_HERE = {
    "Layer": "what every layer is",
    "InputLayer": "every network has one",
    "Lambda": "code, which no version holds",
    "TFSMLayer": "code, which no version holds",
    "JaxLayer": "code, which no version holds",
    "FlaxLayer": "code, which no version holds",
    "TorchModuleWrapper": "code, which no version holds",
    "StringLookup": "takes strings",
    "TextVectorization": "takes strings",
    "Wrapper": "what layers around a layer are",
    "MaxNumBoundingBoxes": "takes boxes",
}
CELLS = {"GRUCell": "RNN", "LSTMCell": "RNN", "SimpleRNNCell": "RNN", "StackedRNNCells": "RNN"}


def test_catalogue_has_every_layer_of_keras() -> None:
    names: dict[type, set[str]] = {}  # some have several
    for name, value in vars(keras.layers).items():
        if inspect.isclass(value) and issubclass(value, keras.layers.Layer):
            names.setdefault(value, set()).add(name)
    known = {kind.layer for kind in kinds()} | set(NOT_HERE) | set(CELLS)

    missing = [called for called in names.values() if not called & known]

    assert [] == missing


@pytest.mark.parametrize(
    "name",
    [
        "Activation (celu)",
        "Activation (sparsemax)",
        "Conv2D (groups)",
        "Discretization",
        "Normalization (given)",
        "Pipeline",
        "RandomRotation",
    ],
)
def test_what_needs_care_is_exported_in_agreement(name: str, tmp_path: Path) -> None:
    kind = next(kind for kind in kinds() if kind.name == name)

    report = exported(kind, tmp_path)

    assert ("onnxruntime", None) == (report.engine, report.reason)


@pytest.mark.soak
def test_table_in_the_document_is_what_is_exported(tmp_path: Path) -> None:
    table = table_of({kind: exported(kind, tmp_path) for kind in kinds()})
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN)
    written, after = rest.split(END)
    if os.environ.get("WRITE_DOCUMENTS"):
        DOCUMENT.write_text(before + BEGIN + table + END + after)
        return

    # How far apart roundings are is the machine's; that they are near enough, the export has checked.
    assert without_differences(written) == without_differences(table)


def exported(kind: Kind, folder: Path) -> ExportReport:
    return export_onnx(kind.model(), kind.signature, folder / "model.onnx", kind.asked())


def table_of(found: dict[Kind, ExportReport]) -> str:
    """A line for each layer and engine, with the ways to use it that were tried."""
    lines: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    for kind, report in found.items():
        place = (kind.layer, report.engine, report.reason or "")
        difference = max((math.inf if each is None else each for each in report.max_difference.values()), default=0.0)
        lines.setdefault(place, []).append((kind.note, difference))
    header = "| layer | ways | engine | difference |\n|---|---|---|---|\n"
    return header + "".join(line_of(*place, ways) for place, ways in sorted(lines.items()))


def line_of(layer: str, engine: str, reason: str, ways: list[tuple[str, float]]) -> str:
    notes = ", ".join(note for note, _ in ways if note)
    apart = reason.removeprefix("the export failed: ") or rounded_up(max(difference for _, difference in ways))
    return f"| `{layer}` | {notes} | {engine} | {apart} |\n"


def rounded_up(difference: float) -> str:
    """To one digit."""
    if difference == 0:
        return "0"
    power = 10.0 ** math.floor(math.log10(difference))
    return f"{math.ceil(difference / power) * power:.0e}"


def without_differences(table: str) -> str:
    return re.sub(r"\| [0-9e.-]+ \|$", "| |", table, flags=re.MULTILINE)
