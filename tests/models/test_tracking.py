"""What MLflow is told: flat parameters, figures, names that it takes; and what it is never told."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import TrackingNotUsable
from models.tracking import check_tracking, metrics_of, mlflow_alias, params_of, public_address, without_secrets

TELEMETRY = """
import sys
from pathlib import Path
from models.tracking import open_tracking
open_tracking(f"sqlite:///{sys.argv[1]}/mlflow.sqlite", Path(sys.argv[1]))
import mlflow.telemetry
print("telemetry:", mlflow.telemetry.get_telemetry_client())
"""


def test_parameters_are_flat_texts() -> None:
    spec = {
        "model": "m",
        "target": None,
        "architecture": {"type": "mlp", "layers": [64, 32]},
        "training": {"early_stopping": {"patience": 5}, "learning_rate": 1e-3},
        "features": {},
        "gates": {"min": {"r2": 0.4}},
    }

    assert params_of(spec) == {
        "model": "m",
        "target": "null",
        "architecture.type": "mlp",
        "architecture.layers": "[64, 32]",
        "training.early_stopping.patience": "5",
        "training.learning_rate": "0.001",
        "features": "{}",
        "gates.min.r2": "0.4",
    }


def test_keys_that_mlflow_refuses_stay_together_as_json() -> None:
    assert params_of({"features": {"a&b": "ignore", "c": "numeric"}}) == {
        "features": '{"a&b": "ignore", "c": "numeric"}'
    }


def test_figures_are_the_evaluation_and_every_epoch_of_every_curve() -> None:
    card = {
        "evaluation": {"metrics": {"r2": 0.5}},
        "training": {"curves": {"loss": [3, 2.0], "val_loss": [None, float("nan"), 1.5]}},
    }

    assert metrics_of(card) == [("test_r2", 0.5, 0), ("loss", 3.0, 1), ("loss", 2.0, 2), ("val_loss", 1.5, 3)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("champion", "champion"),
        ("latest", "vitrine_latest"),
        ("v3", "vitrine_v3"),
        ("v3-b", "v3-b"),
        ("latest-2", "latest-2"),
    ],
)
def test_aliases_that_mlflow_keeps_for_itself_get_a_prefix(ours: str, theirs: str) -> None:
    assert theirs == mlflow_alias(ours)


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("https://me:s3cr%40t@mlflow:5000/sub", "https://me@mlflow:5000/sub"),
        ("postgresql+psycopg://me:s3cr%40t@db/mlflow?password=s3cr%40t", "postgresql+psycopg://me@db/mlflow"),
        ("sqlite:////srv/mlflow.sqlite", "sqlite:////srv/mlflow.sqlite"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri: str, public: str) -> None:
    text = f"cannot reach {uri}/api: password s3cr%40t, or s3cr@t, was refused"

    shown = without_secrets(text, uri)

    assert public == public_address(uri)
    assert f"cannot reach {public}/api" in shown
    assert ("s3cr" in shown) == ("s3cr" not in uri)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (None, "Set VITRINE_MLFLOW_TRACKING_URI"),
        ("htp://me:s3cret@mlflow", "received htp://..."),
        ("/srv/mlruns", "received a text without ://"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_repeated(uri: str | None, expected: str) -> None:
    with pytest.raises(TrackingNotUsable) as caught:
        check_tracking(uri)

    assert expected in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_without_the_extra_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(_name: str) -> Any:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)

    with pytest.raises(TrackingNotUsable, match=r"pip install 'vitrine\[tracking\]'"):
        check_tracking("http://mlflow:5000")


def test_mlflow_s_telemetry_is_off(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
    # Where it finds itself in a test or in CI, MLflow switches telemetry off by itself.
    ours = ("PYTEST", "CI", "GITHUB_ACTIONS", "JENKINS_URL", "MLFLOW_", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TELEMETRY, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout

    assert "telemetry: None" in output
