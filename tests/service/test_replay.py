"""What a replay compares: every number that was recorded, as far as bits are promised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.signature import Feature, Signature
from service.records.replay import same_prediction

A = (Feature("a", "numeric", (), (0.0, 1.0)),)
VALUE = Signature(A, "regression", "y")
TWO = Signature(A, "classification", "y", ("no", "yes"))


def served(signature: Signature, *, batch_invariant: bool | None) -> Any:
    spread = {signature.outputs[0]: dict.fromkeys(signature.targets, 0.5)}
    return SimpleNamespace(
        signature=signature,
        engine=SimpleNamespace(batch_invariant=batch_invariant),
        artifact=SimpleNamespace(card={"spread": spread}),
    )


def labelled(label: str, no: float | None) -> dict[str, Any]:
    return {"label": label, "probabilities": {"no": no, "yes": None if no is None else 1 - no}}


@pytest.mark.parametrize(
    ("signature", "recorded", "computed", "by_the_bit", "by_the_batch"),
    [
        (VALUE, {"value": 1.0}, {"value": 1.0}, True, True),
        (VALUE, {"value": 1.0}, {"value": 1.0 + 1e-7}, False, True),
        (VALUE, {"value": 1.0}, {"value": 1.0 + 1e-5}, False, False),
        (VALUE, {"value": 20000.0}, {"value": 20000.002}, False, True),
        (VALUE, {"value": None}, {"value": None}, True, True),
        (VALUE, {"value": None}, {"value": 1.0}, False, False),
        (TWO, labelled("no", 0.9), labelled("no", 0.9 + 1e-7), False, True),
        (TWO, labelled("no", 0.5), labelled("yes", 0.5 - 1e-7), False, False),
        (TWO, labelled("no", None), labelled("no", None), True, True),
    ],
)
def test_predictions_are_compared_as_exactly_as_batches_leave_them(
    signature: Signature, recorded: Any, computed: Any, by_the_bit: bool, by_the_batch: bool
) -> None:
    found = [
        same_prediction(recorded, computed, served(signature, batch_invariant=invariant))
        for invariant in (True, None, False)
    ]

    assert [by_the_bit, by_the_bit, by_the_batch] == found
