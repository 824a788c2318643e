"""Versions that are trained once and shared by every test."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import pytest

from models.artifact import Artifact, open_artifact


@pytest.fixture(scope="session")
def digits_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A convolutional network on 8 x 8 images: ten labels."""
    architecture = {"type": "cnn", "layers": [8, 16]}
    return _train(tmp_path_factory, "digits", "digits", architecture, epochs=6)


@pytest.fixture(scope="session")
def diabetes_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A regression on ten columns."""
    return _train(tmp_path_factory, "diabetes", "diabetes", {"type": "mlp", "layers": [32]}, epochs=15)


@pytest.fixture(scope="session")
def breast_cancer_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Two labels, one sigmoid unit, thirty columns."""
    return _train(tmp_path_factory, "breast-cancer", "breast_cancer", {"type": "mlp", "layers": [16]}, epochs=5)


def _train(
    folders: pytest.TempPathFactory, model: str, builtin: str, architecture: dict[str, Any], epochs: int
) -> Artifact:
    # Imported late, so that tests that need no TensorFlow start without it.
    from models.building import Reporter, build_version
    from models.spec import parse_spec

    directory = folders.mktemp("versions") / model
    spec = parse_spec(
        {
            "model": model,
            "dataset": {"builtin": builtin},
            "architecture": architecture,
            "training": {"epochs": epochs},
        }
    )
    build_version(spec, directory, Reporter())
    return open_artifact(directory)
