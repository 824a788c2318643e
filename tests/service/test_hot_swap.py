"""The champion changes under load: no request fails, and each answer comes from the version that it names."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from support import (
    COMPUTE,
    PATIENT,
    Server,
    child_processes,
    free_port,
    install,
    registry_of,
    running,
    succeeds,
    wait_for,
)

from models.artifact import Artifact
from models.registry import CHAMPION
from models.rows import decode_rows
from service.serving.engine import OnnxEngine
from service.settings import Settings

MODEL = "swapped"


@pytest.fixture
def swapping(tmp_path: Path) -> Iterator[Server]:
    settings = Settings(home=tmp_path / "home", port=free_port(), refresh_ms=100, loaded_versions=2)
    settings.prepare_home()
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/live"))
        yield server


def test_a_few_swaps_under_load_fail_no_request(
    swapping: Server, diabetes_artifact: Artifact, erfinv_artifact: Artifact
) -> None:
    """Between a version on ONNX Runtime and one on TensorFlow, so that both ways of getting ready are taken."""
    report = swap_under_load(swapping, [diabetes_artifact, erfinv_artifact], swaps=3)

    assert [] == report.faults
    assert 3 <= len(report.versions_seen)
    assert report.predictions > 0 < report.explanations


@pytest.mark.soak
def test_two_hundred_swaps_under_load_fail_no_request_and_keep_no_memory(
    swapping: Server, diabetes_artifact: Artifact, other_diabetes_artifact: Artifact
) -> None:
    artifacts = [diabetes_artifact, other_diabetes_artifact]
    swap_under_load(swapping, artifacts, swaps=20)
    before = memory_mib(swapping)

    report = swap_under_load(swapping, artifacts, swaps=200)
    after = memory_mib(swapping)

    print(f"{report.predictions} predictions, {report.explanations} explanations; MiB {before} -> {after}")
    assert [] == report.faults
    assert len(report.versions_seen) >= 200
    assert after["api"] <= 1.1 * before["api"]
    assert after["compute"] <= before["compute"] + 400


class Report:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self.versions_seen: set[int] = set()
        self.predictions = self.explanations = 0


def swap_under_load(server: Server, artifacts: list[Artifact], *, swaps: int) -> Report:
    """Moves champion through new versions, which are the artifacts by turns, while clients ask without pause."""
    expected = [value_of(artifact) for artifact in artifacts]
    assert abs(expected[0] - expected[1]) > 1
    with registry_of(server.settings) as registry:
        models = registry.models()
    held = len(models[MODEL].versions) if MODEL in models else 0
    report, stop = Report(), Event()

    def value_for(version: int) -> float:
        return expected[(version - 1) % 2]

    def move_to_new_version() -> int:
        nonlocal held
        version = install(server.settings, artifacts[held % 2], MODEL, f"JOB-{held + 1}")
        held += 1
        assert held == version
        server.client.put(f"/models/{MODEL}/aliases/{CHAMPION}", json={"version": version}).raise_for_status()
        return version

    def ask(route: str) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
            while not stop.is_set():
                response = client.post(route, json={"model": MODEL, "inputs": [PATIENT]})
                if response.status_code != 200:
                    report.faults.append(f"{route}: {response.status_code} {response.text}")
                    continue
                answer = response.json()
                if route == "/predict":
                    (prediction,) = answer["predictions"]
                    report.predictions += 1
                else:
                    (explanation,) = answer["explanations"]
                    prediction = explanation["prediction"]
                    (target,) = explanation["targets"]
                    if abs(target["value"] - prediction["value"]) > 0.01:
                        report.faults.append(f"explains {target['value']}, predicts {prediction['value']}")
                    report.explanations += 1
                if abs(prediction["value"] - value_for(answer["version"])) > 0.01:
                    report.faults.append(f"{route}: version {answer['version']} said {prediction['value']}")
                report.versions_seen.add(answer["version"])

    move_to_new_version()
    wait_for(lambda: explains(server))
    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, route) for route in ("/predict", "/predict", "/predict", "/explain")]
        try:
            for _ in range(swaps):
                version = move_to_new_version()
                wait_for(lambda version=version: version in report.versions_seen or any(map(Future.done, asking)))
        finally:
            stop.set()
        for future in asking:
            future.result()
    return report


def explains(server: Server) -> Any:
    return server.client.get("/health/ready").json()["models"].get(MODEL, {}).get("explains")


def value_of(artifact: Artifact) -> float:
    rows = decode_rows([PATIENT], artifact.signature)
    if artifact.onnx_path is None:
        return float(np.asarray(artifact.load_keras()(rows))[0, 0])
    return float(
        OnnxEngine(artifact.onnx_path, artifact.signature, threads=1, keep_memory=False).evaluate(rows, "value")[0, 0]
    )


def memory_mib(server: Server) -> dict[str, float]:
    # While the compute process is being renewed there are two.
    (compute,) = wait_for(lambda: (pids := child_processes(server.process.pid, COMPUTE))[1:] == [] and pids)
    return {"api": rss_mib(server.process.pid), "compute": rss_mib(compute)}


def rss_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
