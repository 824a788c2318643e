"""What is kept of an explanation: the request as it was resolved, what ran, and the answer."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import orjson

from explain.methods import needs_gradient
from models.rows import ModelInput
from service.errors import InputsNotKept, InputsRedacted
from service.records.keeping import Keeping, without_values
from service.serving.explainer import Explained
from service.serving.explaining import ExplanationOrder
from service.serving.pictures import PictureSource
from service.serving.resolving import ResolvedRequest


@dataclass(frozen=True, slots=True)
class ExplanationRecord:
    """One request's explanations.

    Attributes:
        request: JSON; the resolved request without its rows.
        run: JSON; the method that ran, evaluations and stop reason of each row, what a picture needs, and the names of
            features that were redacted.
        inputs: the decoded rows as an .npy file, so that they are computed with again to the last bit; None where
            inputs are not kept, or a feature is redacted.
        document: JSON; the answer, byte for byte (without values of features that are not kept).
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
        """The explained rows `(n_rows, *input_shape)`. Raises `InputsNotKept`, `InputsRedacted`."""
        if self.inputs is None:
            if redacted := orjson.loads(self.run).get("redacted"):
                raise InputsRedacted(f"Explanation {self.id!r}", purpose, redacted)
            raise InputsNotKept(f"Explanation {self.id!r}", purpose)
        return np.load(io.BytesIO(self.inputs), allow_pickle=False)

    def resolved(self) -> ResolvedRequest:
        """The request as it was, for the engine that took its gradients. Raises as `rows`."""
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
        """What a picture of it shows. Raises as `rows` for an image, a series or a text that was not kept."""
        run = orjson.loads(self.run)
        # Records of versions before 0.2 are of columns and images alone.
        shown = run.get("shown", "image" if run["value_range"] else "columns")
        row = None if shown == "columns" else self.rows("drawn")[0]
        given = orjson.loads(self.request).get("given") or [{}]
        return PictureSource(
            orjson.loads(self.document),
            shown,
            row,
            next(iter(given[0].values()), None),
            run["value_range"],
            run["interval_factor"],
        )


def record_of(explained: Explained, keeping: Keeping) -> ExplanationRecord:
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
        "shown": source.shown,
    }
    hidden = keeping.hidden(explained.served.signature) if keeping.inputs else None
    inputs = None
    answer = explained.answer
    if hidden == ():
        file = io.BytesIO()
        np.save(file, resolved.rows, allow_pickle=False)
        inputs = file.getvalue()
    else:
        answer = orjson.dumps(_without_values(document, hidden), option=orjson.OPT_SERIALIZE_NUMPY)
        request["given"] = ()
        if hidden is not None:
            run["redacted"] = hidden
            request["given"] = [
                {name: text for name, text in row.items() if name not in hidden} for row in resolved.order.given
            ]
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


def _without_values(document: dict[str, Any], hidden: Collection[str] | None) -> dict[str, Any]:
    """A document whose attributions no longer say the values of some features; None hides those of all."""
    explanations = [
        row | {"targets": [without_values(target, hidden) for target in row["targets"]]}
        for row in document["explanations"]
    ]
    return document | {"explanations": explanations}
