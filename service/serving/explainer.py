"""`POST /explain`: resolves a request, runs it where it belongs, and words the result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from explain.attribution import Estimate
from explain.caption import Caption, PictureFormat, Theme
from models.database import now
from models.rows import ModelInput, decode_rows
from service.identifiers import new_id
from service.schemas import ExplainRequest
from service.serving.compute import ComputeClient
from service.serving.explaining import ExplanationOrder, LoadReport
from service.serving.pool import ModelPool
from service.serving.receipt import rests_on_tensorflow, write_receipt
from service.serving.resolving import ResolvedRequest, check_request, resolve_request
from service.serving.served_model import ServedModel
from service.serving.wording import row_document

INLINE_MS = 2.0
"""Explanations priced below this run in the API process."""


@dataclass(frozen=True)
class Explained:
    """An explanation and what a picture of it needs."""

    served: ServedModel
    resolved: ResolvedRequest
    estimates: list[Estimate]
    document: dict[str, Any]


class Explainer:
    def __init__(self, pool: ModelPool, compute: ComputeClient) -> None:
        self._pool, self._compute = pool, compute

    async def explain(self, request: ExplainRequest) -> Explained:
        """Explains every row of a request.

        Raises:
            UnknownModel, UnknownVersion, InvalidRows, InvalidRequest, MethodDoesNotFit, BudgetTooSmall,
            ToleranceNotReached, ComputeUnavailable: as their messages say.
        """
        started = monotonic()
        served = await self._pool.resolve(request.model, str(request.version))
        check_request(request, served.signature)
        rows = decode_rows(request.inputs, served.signature)
        predictions = await served.evaluate(rows, served.signature.outputs[0])
        resolved = resolve_request(request, served.signature, rows, predictions)
        estimates = await self._run(served, rows, resolved.order)
        report = await self._report(served, estimates[0].method)
        duration_ms = (monotonic() - started) * 1000
        document = {
            "id": new_id(),
            "created_at": now(),
            "model": served.record.model,
            "version": served.record.version,
            "explanations": _row_documents(served, resolved, predictions, estimates),
            "receipt": write_receipt(served, report, resolved, estimates[0], duration_ms),
        }
        return Explained(served, resolved, estimates, document)

    async def picture(self, explained: Explained, *, width: int, theme: Theme, picture_format: PictureFormat) -> bytes:
        """A picture of an explanation of one row and one target: a heatmap for an image, a waterfall for columns."""
        (row,), (estimate,), ((target,),) = (
            explained.resolved.rows,
            explained.estimates,
            explained.resolved.order.targets,
        )
        signature, record = explained.served.signature, explained.served.record
        prediction = explained.document["explanations"][0]["prediction"]
        name = signature.targets[target]
        caption = Caption(
            title=f"{record.model} v{record.version}: {_in_words(prediction, signature.target)}",
            output=f"{explained.resolved.order.output} of {name}" if signature.labels else name,
            method=f"{estimate.method}, {estimate.evaluations:,} evaluations",
            base_value=float(estimate.base_values[0]),
            value=float(estimate.values[0]),
        )
        attributions = estimate.attributions[:, 0]
        common = {"caption": caption, "width": width, "theme": theme, "picture_format": picture_format}
        if signature.image:
            shape = signature.image.shape[:2]
            values = {"value_range": signature.image.value_range, "attributions": attributions.reshape(shape)}
            order = self._compute.submit("heatmap", image=row, **values, **common)
        else:
            values = {"names": list(signature.feature_names), "values": row.tolist(), "attributions": attributions}
            order = self._compute.submit("waterfall", half_widths=estimate.half_widths[:, 0], **values, **common)
        return await asyncio.wrap_future(order)

    async def _run(self, served: ServedModel, rows: ModelInput, order: ExplanationOrder) -> list[Estimate]:
        explained = served.explained
        if explained is not None and explained.plan(rows, order)[1] < INLINE_MS:
            return explained.explain(rows, order, None)
        return await asyncio.wrap_future(self._compute.submit("explain", key=served.key, rows=rows, order=order))

    async def _report(self, served: ServedModel, method: str) -> LoadReport | None:
        if not rests_on_tensorflow(served, method):
            return None
        # Its load was answered by another thread there: it may arrive just after the explanation.
        return await asyncio.shield(asyncio.wrap_future(served.in_compute))


def _row_documents(
    served: ServedModel, resolved: ResolvedRequest, predictions: np.ndarray, estimates: list[Estimate]
) -> list[dict[str, Any]]:
    worded = zip(served.predictions(predictions), resolved.rows, resolved.order.targets, estimates, strict=True)
    return [
        row_document(served.signature, prediction, row, targets, estimate, resolved.top_k)
        for prediction, row, targets, estimate in worded
    ]


def _in_words(prediction: dict[str, Any], target: str) -> str:
    if "label" not in prediction:
        return f"{target} {prediction['value']:.4g}"
    return f"{prediction['label']} ({prediction['probabilities'][prediction['label']]:.2f})"
