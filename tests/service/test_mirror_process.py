"""`vitrine mirror` against a real MLflow server, which is away, comes, is killed, and comes again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from support import free_port, install, point, running, wait_for

from models.artifact import Artifact
from models.tracking import open_tracking
from service.mirror import LONGEST_PAUSE_SECONDS, POLL_SECONDS, pause_after
from service.settings import Settings
from service.up import Supervisor

mlflow = pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")

# MLflow uses what SQLAlchemy and others deprecate; nothing here can change that.
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SADeprecationWarning"),
]

PASSWORD = "correct-horse"


@dataclass(frozen=True)
class MlflowServer:
    """A server that can be started again on what it held."""

    folder: Path
    port: int

    @contextmanager
    def serving(self) -> Iterator[Any]:
        """A client of MLflow's own, once the server answers; the server is killed in the end."""
        options = {
            "--port": str(self.port),
            "--workers": "1",
            "--backend-store-uri": f"sqlite:///{self.folder / 'mlflow.sqlite'}",
            "--artifacts-destination": str(self.folder / "artifacts"),
        }
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *chain.from_iterable(options.items())],
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            address = f"http://127.0.0.1:{self.port}"
            wait_for(lambda: answers(f"{address}/health"), seconds=90)
            yield open_tracking(address, self.folder)._client
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def mlflow_server(tmp_path: Path, mlflow_database: Path) -> MlflowServer:
    """Not started yet."""
    shutil.copy(mlflow_database, tmp_path / "mlflow.sqlite")
    return MlflowServer(tmp_path, free_port())


@pytest.fixture
def settings(tmp_path: Path, mlflow_server: MlflowServer) -> Settings:
    # The server asks for no password; one in the URI is sent all the same.
    uri = f"http://me:{PASSWORD}@127.0.0.1:{mlflow_server.port}"
    settings = Settings(home=tmp_path / "home", mlflow_tracking_uri=uri)
    settings.prepare_home()
    return settings


def test_a_server_that_is_away_at_first_is_caught_up_when_it_comes(
    settings: Settings, mlflow_server: MlflowServer, diabetes_artifact: Artifact
) -> None:
    for job in ("job-1", "job-2"):
        install(settings, diabetes_artifact, "diabetes", job)
    point(settings, "diabetes", 2)

    with running(settings, "mirror") as mirror:
        wait_for(lambda: "is away" in mirror.log)
        with mlflow_server.serving() as client:
            wait_for(lambda: aliases(client) == {"champion": 2, "vitrine_1": 1, "vitrine_2": 2}, seconds=90)
            point(settings, "diabetes", 1)
            wait_for(lambda: aliases(client)["champion"] == 1)
            version = client.get_model_version_by_alias("diabetes", "champion")
            files = {file.path for file in client.list_artifacts(version.run_id, "version")}

    assert version.tags["vitrine.version"] == "1"
    assert "version/model.keras" in files
    assert mirror.log.count("is away") == 1
    assert "is caught up" in mirror.log
    assert f"http://me@127.0.0.1:{mlflow_server.port}" in mirror.log
    assert PASSWORD not in mirror.log
    assert "Traceback" not in mirror.log
    assert mirror.process.returncode == 0


@pytest.mark.soak
def test_a_server_and_a_mirror_that_are_killed_in_between_leave_nothing_twice(
    settings: Settings, mlflow_server: MlflowServer, diabetes_artifact: Artifact
) -> None:
    n_versions = 12
    for i in range(n_versions):
        install(settings, diabetes_artifact, "diabetes", f"job-{i:02}")
    point(settings, "diabetes", n_versions)

    for killed_at in (2, 5, 8):
        with mlflow_server.serving() as client, running(settings, "mirror") as mirror:
            wait_for(lambda client=client, at=killed_at: count_runs(client) >= at)
            if killed_at == 5:
                mirror.process.kill()
    with mlflow_server.serving() as client, running(settings, "mirror"):
        expected = {f"vitrine_{i}": i for i in range(1, n_versions + 1)} | {"champion": n_versions}
        wait_for(lambda: aliases(client) == expected)
        runs = count_runs(client)
        versions = client.search_model_versions("name = 'diabetes'")

    assert (runs, len(versions)) == (n_versions, n_versions)


def test_a_second_mirror_and_one_with_nothing_to_mirror_to_say_what_is_wrong(
    tmp_path: Path, mlflow_database: Path
) -> None:
    uri = f"sqlite:///{shutil.copy(mlflow_database, tmp_path / 'mlflow.sqlite')}"
    settings = Settings(home=tmp_path / "home", mlflow_tracking_uri=uri)

    with running(settings, "mirror") as first:
        wait_for(lambda: (settings.run_directory / "mirror.lock").exists() and "caught up" in first.log)
        second = run_mirror_command(settings)
    unset = run_mirror_command(settings.model_copy(update={"mlflow_tracking_uri": None}))

    assert (second.returncode, "A mirror runs on" in second.stderr) == (1, True)
    assert (unset.returncode, "Set VITRINE_MLFLOW_TRACKING_URI" in unset.stderr) == (1, True)


def test_up_refuses_an_address_that_cannot_be_mirrored_to(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port(), mlflow_tracking_uri="htp://me:secret@mlflow")

    with running(settings, "up") as system:
        status = system.process.wait(120)

    assert status == 1
    assert "expected http://" in system.log
    assert "secret" not in system.log


def test_up_keeps_a_mirror_where_one_is_configured(tmp_path: Path) -> None:
    plain = Settings(home=tmp_path)
    configured = plain.model_copy(update={"mlflow_tracking_uri": "http://mlflow:5000"})

    parts = [[part.name for part in Supervisor(each, Console()).parts] for each in (plain, configured)]

    assert "mirror" not in parts[0]
    assert parts[1] == [*parts[0], "mirror"]


@pytest.mark.parametrize("stream", ["stdout", "stderr", "logging"])
def test_nothing_that_the_process_writes_holds_the_password(stream: str) -> None:
    write = {"stdout": "print(uri)", "stderr": "sys.stderr.write(uri)", "logging": "logging.error('at %s', uri)"}
    code = f"""
import logging, sys
from service.mirror import _hide_secrets
logging.basicConfig()
uri = "http://me:{PASSWORD}@mlflow"
_hide_secrets(uri)
{write[stream]}
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "http://me@mlflow" in done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.soak
def test_up_runs_a_mirror_where_one_is_configured(tmp_path: Path, diabetes_artifact: Artifact) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.sqlite'}"
    settings = Settings(home=tmp_path / "home", port=free_port(), mlflow_tracking_uri=uri)
    settings.prepare_home()
    install(settings, diabetes_artifact, "diabetes", "job-1")

    with running(settings, "up") as system:
        log = settings.logs_directory / "mirror.log"
        wait_for(lambda: log.exists() and "caught up" in log.read_text(), seconds=90)
        client = open_tracking(uri, tmp_path)._client
        held = aliases(client)

    assert held == {"vitrine_1": 1}
    assert system.process.returncode == 0


def test_pauses_grow_while_mlflow_is_away_and_have_an_end() -> None:
    pauses = [pause_after(failures) for failures in range(12)]

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (POLL_SECONDS, LONGEST_PAUSE_SECONDS)


def run_mirror_command(settings: Settings) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")}
    return subprocess.run(
        [sys.executable, "-m", "service", "mirror", "--once"],
        env=environment | settings.to_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def aliases(client: Any) -> dict[str, int]:
    try:
        held = client.get_registered_model("diabetes").aliases
    except mlflow.exceptions.MlflowException:
        return {}
    return {alias: int(version) for alias, version in held.items()}


def count_runs(client: Any) -> int:
    experiments = [each.experiment_id for each in client.search_experiments()]
    return len(client.search_runs(experiments))


def answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
