"""What is served: the versions of digits and breast-cancer, test rows, and the right answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.versions import trained_version
from models.artifact import Artifact
from models.demos import DEMO_SPECS
from models.inference import open_session
from models.rows import ModelInput

NAMES = ("digits", "breast-cancer")


@dataclass(frozen=True, slots=True)
class Subject:
    """A version, and rows with the outputs that ONNX Runtime gives for them.

    Attributes:
        rows: as JSON would hold them, `(n_rows, *row_shape)`, without an axis for one channel.
        outputs: `(n_rows, n_outputs)`.
    """

    name: str
    version: Artifact
    onnx: Path
    labels: tuple[str, ...]
    rows: np.ndarray
    outputs: np.ndarray


def make_subjects(home: Path) -> dict[str, Subject]:
    """The demo models, trained where the folder does not hold them yet."""
    return {name: _subject(name, home) for name in NAMES}


def _subject(name: str, home: Path) -> Subject:
    version, rows = trained_version(DEMO_SPECS[name], home)
    if version.onnx_path is None:
        raise RuntimeError(f"the export of {name} did not agree with Keras, and every server is to serve it.")
    outputs = bare_outputs(version.onnx_path, rows)
    shown = rows[..., 0] if rows.ndim == 4 else rows
    return Subject(
        name, version, version.onnx_path, tuple(version.signature.labels), np.ascontiguousarray(shown), outputs
    )


def bare_outputs(onnx: Path, rows: ModelInput) -> np.ndarray:
    """What ONNX Runtime answers, `(n_rows, n_units)`; one sigmoid unit becomes the two probabilities of our answers."""
    session = open_session(onnx.read_bytes(), threads=1)
    outputs = session.run(["output"], {session.get_inputs()[0].name: rows})[0]
    return with_both_labels(outputs)


def with_both_labels(outputs: np.ndarray) -> np.ndarray:
    """Outputs `(n_rows, n_units)`; the probability of the second label alone becomes that of both."""
    return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs
