"""Real jobs with gates: judged, compared with the champion there is when they end, and trained again from it."""

from __future__ import annotations

from typing import Any

import pytest
from support import Server, wait_for

SECONDS = 600
"""Trainers take ten seconds each; on a machine with other work, much longer."""
GATES = {
    "min": {"accuracy": 0.0},
    "max": {"log_loss": 100.0},
    "calibration": {"max_error": 0.999},
    "not_worse_than_champion": {"metric": "log_loss", "margin": 10.0},
    "latency": {"p50_ms": 1000},
    "fidelity": {"rows": 6},
}
SPEC = {
    "model": "gated",
    "dataset": {"builtin": "iris"},
    "architecture": {"type": "mlp", "layers": [4]},
    "training": {"epochs": 3, "early_stopping": None},
    "gates": GATES,
}


def submit(system: Server, document: dict[str, Any]) -> str:
    response = system.client.post("/train", json=document)
    assert response.status_code == 202, response.text
    return response.json()["job"]


def finished(system: Server, job: str) -> dict[str, Any]:
    ended = ("succeeded", "failed", "cancelled")
    return wait_for(lambda: (d := system.client.get(f"/train/{job}").json())["status"] in ended and d, seconds=SECONDS)


def compared(gates: list[dict[str, Any]]) -> dict[str, Any]:
    return next(gate for gate in gates if gate["gate"] == "not_worse_than_champion")


@pytest.mark.long
def test_gates_are_judged_beside_the_champion_there_is_at_the_end_and_retraining_takes_the_specification(
    system: Server,
) -> None:
    first = finished(system, submit(system, SPEC))
    again = {"model": "gated", "from": "champion", "warm_start": True, "promote": "never", "training": {"epochs": 2}}
    second = finished(system, submit(system, again))

    assert ("succeeded", 1, True) == (first["status"], first["version"], first["promoted"]), first
    assert ["accuracy", "log_loss", "calibration", "not_worse_than_champion", "latency", "fidelity"] == [
        gate["gate"] for gate in first["gates"]
    ]
    assert all(gate["passed"] for gate in first["gates"])
    assert "There is no champion yet." == compared(first["gates"])["words"]
    assert {"gate": "fidelity", "gates_judged": 2, "gates": 3}.items() <= first["progress"].items()
    assert 3 == first["progress"]["epoch"]
    card = system.client.get("/models/gated/versions/1").json()
    assert first["gates"] == card["gates"]
    assert card["fidelity"]["passed"]

    assert ("succeeded", 2, False) == (second["status"], second["version"], second["promoted"]), second
    assert (1, True, 2, GATES["latency"]) == (
        second["spec"]["from"],
        second["spec"]["warm_start"],
        second["spec"]["training"]["epochs"],
        second["spec"]["gates"]["latency"],
    )
    assert 1 == compared(second["gates"])["champion"]
    assert compared(second["gates"])["rows"] > 10
    assert 1 == system.client.get("/models/gated/versions/2").json()["training"]["warm_start"]["version"]

    # The champion moves after the third was compared with it, and before it is promoted.
    third = submit(system, {"model": "gated", "from": 1, "gates": {"fidelity": {"rows": 40}}})

    def explaining() -> bool:
        figures = system.client.get(f"/train/{third}").json()["progress"] or {}
        return figures.get("gate") == "fidelity"

    wait_for(explaining, seconds=SECONDS)
    moved = system.client.put("/models/gated/aliases/champion", json={"version": 2, "reason": "in between"})
    ended = finished(system, third)

    assert 200 == moved.status_code
    assert ("succeeded", 3, True) == (ended["status"], ended["version"], ended["promoted"]), ended
    assert 2 == compared(ended["gates"])["champion"]
    shown = system.client.get("/models/gated/versions/3").json()
    assert 1 == compared(shown["gates"])["champion"]
    assert [2] == [compared(decision["gates"])["champion"] for decision in shown["decisions"]]
    (registered,) = [v for v in system.client.get("/models/gated").json()["versions"] if v["version"] == 3]
    assert 2 == compared(registered["gates"])["champion"]

    # By hand, what was compared with a former champion is not promoted.
    refused = system.client.put("/models/gated/aliases/champion", json={"version": 2})
    forced = system.client.put(
        "/models/gated/aliases/champion", json={"version": 2, "force": True, "reason": "known to be better"}
    )
    assert (409, "/problems/comparison-outdated") == (refused.status_code, refused.json()["type"])
    assert 200 == forced.status_code


def test_a_trainer_beyond_its_limits_is_ended_and_the_job_says_so(system: Server) -> None:
    document = {**SPEC, "model": "limited", "gates": {}}
    slow = submit(system, {**document, "limits": {"minutes": 0.001}})
    large = submit(system, {**document, "limits": {"memory_mib": 64}})

    too_slow, too_large = finished(system, slow), finished(system, large)

    assert ("failed", "The job took too long", 1) == (
        too_slow["status"],
        too_slow["error"]["title"],
        too_slow["attempt"],
    )
    assert "more than 0.001 minutes, which is its limit" in too_slow["error"]["detail"]
    assert ("failed", "The job took too much memory", 1) == (
        too_large["status"],
        too_large["error"]["title"],
        too_large["attempt"],
    )
    assert "more than 64 MiB, which is its limit" in too_large["error"]["detail"]


@pytest.mark.soak
def test_a_warm_start_of_another_network_fails_in_words(system: Server) -> None:
    document = {"model": "gated", "from": 1, "warm_start": True, "architecture": {"layers": [5]}}

    ended = finished(system, submit(system, document))

    assert ("failed", "The weights do not fit the network") == (ended["status"], ended["error"]["title"])
    assert "Expected Dense with weights 4x4, 4, received Dense with weights 4x5, 5" in ended["error"]["detail"]
