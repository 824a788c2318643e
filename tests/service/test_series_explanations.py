"""Explanations of a recurrent network under load: the same bits as one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support import Server, free_port, install, point, running, succeeds, wait_for

from service.settings import Settings

sys.path.append(str(Path(__file__).parents[1] / "models"))
import tables

AT_ONCE = 64
PATIENCE_MS = 500_000
"""No deadline cuts a run short, so that each makes its whole budget."""


@pytest.fixture(scope="module")
def gru_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`vitrine serve` with `strokes`: a small GRU on digits that are read row by row."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port())
    settings.prepare_home()
    raw = tables.digit_series()
    labels = raw.columns["digit"].values.astype(str)
    np.savez(settings.data_directory / "rows.npz", allow_pickle=False, X=raw.columns["rows"].values, y=labels)
    document = {
        "model": "strokes",
        "dataset": {"path": "rows.npz"},
        "architecture": {"type": "recurrent", "cell": "gru", "layers": [12]},
        "training": {"epochs": 4, "learning_rate": 0.01},
        "background": {"rows": 16},
    }
    artifact = tables.build(document, settings.data_directory, tmp_path_factory.mktemp("versions") / "strokes")
    point(settings, "strokes", install(settings, artifact, "strokes", "JOB"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"), seconds=300)
        yield server


@pytest.mark.soak
@pytest.mark.parametrize("method", ["kernel", "expected-gradients"])
def test_explanations_at_once_are_those_one_after_the_other_to_the_bit(gru_server: Server, method: str) -> None:
    series = tables.digit_series().columns["rows"].values[:AT_ONCE]

    with httpx.Client(base_url=gru_server.client.base_url, timeout=900) as client:
        alone = [explained(client, rows, method) for rows in series]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            together = list(threads.map(lambda rows: explained(client, rows, method), series))

    assert alone == together
    assert {"budget"} == {explanation["stop_reason"] for explanation in alone}
    assert len({str(explanation) for explanation in alone}) > AT_ONCE / 2


def explained(client: httpx.Client, rows: Any, method: str) -> dict[str, Any]:
    body = {
        "model": "strokes",
        "inputs": [rows.tolist()],
        "method": method,
        "tolerance": 0.0001,
        "budget": 4096,
        "deadline_ms": PATIENCE_MS,
    }
    answer = client.post("/explain", json=body)
    assert 200 == answer.status_code, answer.text
    return answer.json()["explanations"][0]
