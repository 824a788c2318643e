"""Networks for series learn digits that are read row by row: eight steps of eight pixels each."""

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from models.datasets import Dataset, Split, load_builtin, split_dataset
from models.outputs import target_columns
from models.signature import Feature, Signature
from models.spec import TrainingSpec, parse_spec
from models.spec.network import ArchitectureSpec
from models.training import FittedModel, fit, predict_raw

SERIES = Signature((Feature("rows", "series", (8, 8), (0.0, 16.0)),), "classification", "digit", tuple("0123456789"))


@pytest.mark.long
def test_series_network_learns_digits_and_measures_its_layers() -> None:
    fitted, accuracy = fit_digits({"type": "cnn-1d", "layers": (16, 32)}, epochs=6)

    assert accuracy > 0.8
    measured = fitted.statistics[-1].layers
    assert 5 == len(measured)
    assert ["logit"] == list(measured)[-1:]
    assert all(figures["gradient"] > 0 for figures in measured.values())
    assert all("dead" in figures for name, figures in measured.items() if name != "logit")


@pytest.mark.soak
@pytest.mark.parametrize(
    "architecture",
    [
        {"type": "recurrent", "layers": (48,), "cell": "simple"},
        {"type": "recurrent", "layers": (32,), "cell": "gru", "bidirectional": True},
        {"type": "recurrent", "layers": (32, 32), "cell": "lstm"},
        {"type": "transformer", "layers": (64, 64)},
        {"type": "cnn-1d", "layers": (32, 64), "residual": True, "normalization": "batch"},
        {"type": "mlp", "layers": (64,)},
    ],
    ids=str,
)
def test_each_network_for_series_learns_digits(architecture: dict[str, Any]) -> None:
    _, accuracy = fit_digits(architecture, epochs=30, batch_size=64)

    assert accuracy > 0.93


def fit_digits(architecture: dict[str, Any], **training: Any) -> tuple[FittedModel, float]:
    """A fit on digits as series, and its accuracy on the test part."""
    document = {"model": "m", "dataset": {"builtin": "digits"}, "training": {"learning_rate": 0.005, **training}}
    chosen: Any = TypeAdapter(ArchitectureSpec).validate_python(architecture)
    spec: TrainingSpec = parse_spec(document).model_copy(update={"architecture": chosen})
    dataset, split = digits_as_series()
    fitted = fit(spec, dataset, split)
    outputs = target_columns(predict_raw(fitted.model, dataset.inputs[split.test]), SERIES, "probability")
    return fitted, float(np.mean(outputs.argmax(axis=1) == dataset.targets[split.test]))


def digits_as_series() -> tuple[Dataset, Split]:
    images = load_builtin("digits")
    split = split_dataset(images, test=0.2, validation=0.2)
    return Dataset(SERIES, images.inputs[..., 0], images.targets, images.row_digests, {}), split
