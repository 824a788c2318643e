"""Versions that are trained once and shared by every test, and how tests are shared by several processes."""

import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers fill the cores already; threads of linear algebra that wait for each other there only burn them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a script's background job: what tests start would not hear Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres, find_postgres
from sharing import begins_before, group_of, is_worker, made_once, number_of_workers
from tools import missing

from models.artifact import Artifact, open_artifact


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means."""
    return number_of_workers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if is_worker():
        items.sort(key=lambda item: begins_before(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What `--dist loadfile` means: a file at a time, or several that belong together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Together(config, log)


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL server."""
    programs = find_postgres()
    if programs is None:
        missing("PostgreSQL", package="postgresql")
    server = Postgres(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of MLflow's, to copy: its migrations take seconds."""
    from models.tracking import open_tracking

    def migrate(aside: Path) -> None:
        aside.mkdir()
        open_tracking(f"sqlite:///{aside / 'mlflow.sqlite'}", aside / "artifacts").probe()

    return made_once(tmp_path_factory, "mlflow", migrate) / "mlflow.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind that we run on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'vitrine.sqlite'}"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture(scope="session")
def other_diabetes_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Diabetes as another network sees it."""
    return _train(tmp_path_factory, "other", "diabetes", {"type": "mlp", "layers": [8]}, epochs=4)


@pytest.fixture(scope="session")
def erfinv_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A regression on ten columns with an operation that ONNX does not have: only TensorFlow can serve it."""
    import keras
    import numpy as np

    from models.building import VersionRows, write_version
    from models.datasets import load_builtin
    from models.preprocessing import in_target_units

    dataset = load_builtin("diabetes")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10,))
    normalization: Any = keras.layers.Normalization()
    normalization.adapt(dataset.inputs)
    ops: Any = keras.ops
    hidden = ops.erfinv(0.9 * ops.tanh(keras.layers.Dense(16)(normalization(inputs))))
    model = keras.Model(inputs, in_target_units(keras.layers.Dense(1)(hidden), 152.0, 77.0))
    background = dataset.inputs[::5]
    card = {
        "model": "erfinv",
        "data": {"dataset": {"builtin": "diabetes"}, "sha256": dataset.sha256},
        "spec": {"model": "erfinv", "dataset": {"builtin": "diabetes"}},
        "evaluation": {"rows": 0, "metrics": {}},
        "gates": [],
        "training": {"curves": {}, "warnings": []},
    }
    rows = VersionRows(background, np.full(len(background), 1 / len(background)), dataset.inputs[1::5])

    def write(directory: Path) -> None:
        write_version(directory, model, dataset.signature, rows, card, seed=0, fence=lambda: None)

    return open_artifact(made_once(tmp_path_factory, "erfinv", write))


def _train(
    folders: pytest.TempPathFactory, model: str, builtin: str, architecture: dict[str, Any], epochs: int
) -> Artifact:
    # Imported late, so that tests that need no TensorFlow start without it.
    from models.building import Reporter, build_version
    from models.spec import parse_spec

    spec = parse_spec(
        {
            "model": model,
            "dataset": {"builtin": builtin},
            "architecture": architecture,
            "training": {"epochs": epochs},
        }
    )
    return open_artifact(made_once(folders, model, lambda directory: build_version(spec, directory, Reporter())))
