"""The challenger's copy of live predictions: measured right, reset by moves, and never in the way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import Server, install, point, wait_for, without_onnx

from models.artifact import Artifact
from models.signature import Feature, Signature
from service.serving.agreement import NotComparable, adapter, distances, same_labels
from service.serving.shadow import Shadow

NUMBERS = tuple(Feature(name, "numeric", (), (0.0, 1.0)) for name in ("a", "b", "c"))
TWO = Signature(NUMBERS, "classification", "y", ("no", "yes"))
ROWS = [[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87], [30, 1, 21.0, 80, 150, 90.0, 50, 3, 4.1, 80]]


def test_labels_are_compared_by_name_and_values_in_spreads() -> None:
    mine, theirs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([[0.3, 0.7], [0.9, 0.1], [0.8, 0.2]])

    assert 2 == same_labels(mine, theirs, ("no", "yes"), ("yes", "no"))
    assert [1.0, 0.5] == distances(np.array([[1.0], [2.0]]), np.array([[3.0], [1.0]]), spread=2.0).tolist()


def test_a_challenger_with_fewer_columns_in_another_order_is_given_its_own() -> None:
    fewer = Signature((NUMBERS[2], NUMBERS[0]), "classification", "y", ("yes", "no"), ignored=("b",))

    rows = adapter(TWO, fewer)(np.array([[1, 2, 3], [4, 5, 6]], np.float32))

    assert [[3, 1], [6, 4]] == rows.tolist()


def test_a_challenger_is_given_all_columns_of_a_text_wherever_they_are() -> None:
    text = Feature("t", "text", (3,), (0.0, 9.0), vocabulary=("x", "y"))
    mine = Signature((text, *NUMBERS), "regression", "y")
    theirs = Signature((NUMBERS[1], text), "regression", "y")

    rows = adapter(mine, theirs)(np.array([[2, 3, 0, 10, 20, 30]], np.float32))

    assert [[20, 2, 3, 0]] == rows.tolist()


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (Signature(NUMBERS, "classification", "y", ("no", "maybe")), "the challenger 'y' (no, maybe)"),
        (Signature((*NUMBERS, Feature("d", "numeric", (), (0, 1))), "classification", "y", ("no", "yes")), "'d'"),
    ],
)
def test_a_challenger_that_cannot_be_compared_is_refused_in_words(theirs: Signature, words: str) -> None:
    with pytest.raises(NotComparable) as caught:
        adapter(TWO, theirs)

    assert words in str(caught.value)


class Pool:
    """Two versions of a model `m`, and how often its aliases have moved."""

    def __init__(self, champion: Any, challenger: Any) -> None:
        self._champion, self._challenger = champion, challenger
        self.swaps: dict[tuple[str, str], int] = {("m", "champion"): 0, ("m", "challenger"): 0}

    def champion(self, _model: str) -> Any:
        return self._champion

    def challenger(self, _model: str) -> Any:
        return self._challenger


def version(number: int, outputs: Any = None) -> Any:
    async def evaluate_aside(_rows: Any, _output: str, _thread: Any) -> Any:
        if isinstance(outputs, Exception):
            raise outputs
        return outputs

    record = SimpleNamespace(model="m", version=number)
    return SimpleNamespace(record=record, signature=TWO, evaluate_aside=evaluate_aside, last_use=0)


RIGHT = np.array([[0.1, 0.9], [0.8, 0.2]])


async def measured(shadow: Shadow, copies: list[Any]) -> Any:
    for served in copies:
        shadow.copy(served, np.zeros((2, 3), np.float32), RIGHT)
    follower = asyncio.create_task(shadow.follow())
    await asyncio.sleep(0.05)
    follower.cancel()
    shadow.close()
    return shadow.document("m")


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted() -> None:
    async def scenario() -> Any:
        champion = version(1)
        shadow = Shadow(Pool(champion, version(2, RIGHT)), lambda: "now", max_waiting_rows=4)  # type: ignore[arg-type]
        return await measured(shadow, [champion] * 5)

    document = asyncio.run(scenario())

    assert (4, 1.0, 6, 0) == (document["rows"], document["agreement"], document["dropped"], document["failed"])


def test_a_challenger_that_fails_is_counted_and_said_and_the_next_copies_are_tried() -> None:
    async def scenario() -> Any:
        champion = version(1)
        pool = Pool(champion, version(2, ValueError("no such weight")))
        return await measured(Shadow(pool, lambda: "now"), [champion, champion])  # type: ignore[arg-type]

    document = asyncio.run(scenario())

    assert (0, None, 4, "ValueError: no such weight") == (
        document["rows"],
        document["agreement"],
        document["failed"],
        document["problem"],
    )


def test_only_answers_of_the_champion_are_copied_and_a_moved_alias_begins_anew() -> None:
    async def scenario() -> tuple[Any, Any]:
        champion, challenger = version(1), version(2, RIGHT)
        pool = Pool(champion, challenger)
        shadow = Shadow(pool, lambda: f"at {pool.swaps['m', 'challenger']}")  # type: ignore[arg-type]
        before = await measured(shadow, [champion, challenger, version(1)])
        pool.swaps["m", "challenger"] += 2  # there and back
        return before, shadow.document("m")

    before, after = asyncio.run(scenario())

    assert (2, "at 0") == (before["rows"], before["since"])
    assert (0, None, "at 2") == (after["rows"], after["agreement"], after["since"])


# -- over HTTP -------------------------------------------------------------------------------------------------------


def test_agreement_with_the_challenger_is_shown_and_moves_reset_it(
    server: Server, diabetes_artifact: Artifact, other_diabetes_artifact: Artifact, tmp_path: Any
) -> None:
    keras_only = without_onnx(other_diabetes_artifact, tmp_path)
    for number, artifact in enumerate((diabetes_artifact, other_diabetes_artifact, keras_only), 1):
        install(server.settings, artifact, "shadowed", f"JOB-shadowed-{number}")
    point(server.settings, "shadowed", 1)
    alone = wait_for(lambda: predicted(server, "champion"))
    nothing = server.client.get("/models/shadowed").json()["shadow"]

    documents = []
    for challenger in (2, 3):
        put = server.client.put("/models/shadowed/aliases/challenger", json={"version": challenger})
        assert 200 == put.status_code, put.text
        wait_for(lambda challenger=challenger: (d := shown(server)) and d["challenger"] == challenger)
        for _ in range(3):
            predicted(server, "champion")
        predicted(server, "challenger")
        documents.append(wait_for(lambda: (d := shown(server))["rows"] == 6 and d))
    theirs = predicted(server, 2)
    metrics = server.client.get("/metrics").text

    assert nothing is None
    spread = diabetes_artifact.card["spread"]["value"]["progression"]
    apart = [abs(a["value"] - b["value"]) / spread for a, b in zip(alone, theirs, strict=True)]
    for challenger, document in zip((2, 3), documents, strict=True):
        assert (1, challenger, np.mean([each <= 0.1 for each in apart]), 0, 0, None) == (
            document["champion"],
            document["challenger"],
            document["agreement"],
            document["dropped"],
            document["failed"],
            document["problem"],
        )
        assert document["distance"] == pytest.approx(np.mean(apart), rel=1e-4)
    assert documents[0]["since"] < documents[1]["since"]
    assert 'vitrine_shadow_rows{model="shadowed",outcome="predicted"} 6.0' in metrics
    assert 'vitrine_shadow_agreement_ratio{model="shadowed"}' in metrics


def predicted(server: Server, version: int | str) -> list[dict[str, Any]]:
    body = {"model": "shadowed", "version": version, "inputs": ROWS}
    answer = server.client.post("/predict", json=body)
    return answer.json()["predictions"] if answer.status_code == 200 else []


def shown(server: Server) -> dict[str, Any]:
    return server.client.get("/models/shadowed").json()["shadow"]
