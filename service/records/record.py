"""What is kept of an explanation: the request as it was resolved, what ran, and the answer."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import orjson

from explain.methods import needs_gradient
from models.rows import ModelInput
from service.errors import InputsNotKept
from service.serving.explainer import Explained
from service.serving.explaining import ExplanationOrder
from service.serving.pictures import PictureSource
from service.serving.resolving import ResolvedRequest


@dataclass(frozen=True, slots=True)
class ExplanationRecord:
    """One request's explanations.

    Attributes:
        request: JSON; the resolved request without its rows.
        run: JSON; the method that ran, evaluations and stop reason of each row, what a picture needs.
        inputs: the decoded rows as an .npy file, so that they are computed with again to the last bit; None where
            inputs are not kept.
        document: JSON; the answer, byte for byte (without values of features where inputs are not kept).
    """

    id: str
    created_at: str
    model: str
    version: int
    request: str
    run: str
    inputs: bytes | None
    document: str

    @property
    def n_bytes(self) -> int:
        return len(self.request) + len(self.run) + len(self.inputs or b"") + len(self.document)

    def rows(self, purpose: str) -> ModelInput:
        """The explained rows `(n_rows, *input_shape)`. Raises `InputsNotKept`."""
        if self.inputs is None:
            raise InputsNotKept(self.id, purpose)
        return np.load(io.BytesIO(self.inputs), allow_pickle=False)

    def resolved(self) -> ResolvedRequest:
        """The request as it was, for the engine that took its gradients. Raises `InputsNotKept`."""
        request = orjson.loads(self.request)
        top_k = request.pop("top_k")
        targets = tuple(tuple(row) for row in request.pop("targets"))
        takes_gradients = needs_gradient(orjson.loads(self.run)["method"])
        engine = orjson.loads(self.document)["receipt"]["engine"] if takes_gradients else None
        order = ExplanationOrder(targets=targets, gradient_engine=engine, **request)
        return ResolvedRequest(self.rows("computed again"), order, top_k)

    def replay_order(self, order: ExplanationOrder) -> ExplanationOrder:
        """The order that makes the recorded run again: its method and evaluations, not its clock."""
        run = orjson.loads(self.run)
        return replace(order, method=run["method"], evaluations=tuple(run["evaluations"]), strict=False)

    def picture_source(self) -> PictureSource:
        """What a picture of it shows. Raises `InputsNotKept` for an image that was not kept."""
        run = orjson.loads(self.run)
        image = self.rows("drawn")[0] if run["value_range"] else None
        return PictureSource(orjson.loads(self.document), image, run["value_range"], run["interval_factor"])


def record_of(explained: Explained, *, keep_inputs: bool) -> ExplanationRecord:
    """The record of an explanation that has just been made."""
    document, resolved = explained.document, explained.resolved
    request = asdict(resolved.order) | {"top_k": resolved.top_k}
    del request["evaluations"], request["gradient_engine"]
    source = explained.picture_source()
    run = {
        "method": explained.estimates[0].method,
        "evaluations": [estimate.evaluations for estimate in explained.estimates],
        "stop_reasons": [estimate.stop_reason for estimate in explained.estimates],
        "interval_factor": source.interval_factor,
        "value_range": source.value_range,
    }
    inputs = None
    answer = explained.answer
    if keep_inputs:
        file = io.BytesIO()
        np.save(file, resolved.rows, allow_pickle=False)
        inputs = file.getvalue()
    else:
        answer = orjson.dumps(_without_inputs(document), option=orjson.OPT_SERIALIZE_NUMPY)
    return ExplanationRecord(
        id=document["id"],
        created_at=document["created_at"],
        model=document["model"],
        version=document["version"],
        request=orjson.dumps(request).decode(),
        run=orjson.dumps(run).decode(),
        inputs=inputs,
        document=answer.decode(),
    )


def _without_inputs(document: dict[str, Any]) -> dict[str, Any]:
    """A document whose attributions no longer say the values of their features."""
    explanations = [
        row | {"targets": [_without_values(target) for target in row["targets"]]} for row in document["explanations"]
    ]
    return document | {"explanations": explanations}


def _without_values(target: dict[str, Any]) -> dict[str, Any]:
    if "attributions" not in target:
        return target
    return target | {"attributions": [share | {"value": None} for share in target["attributions"]]}
