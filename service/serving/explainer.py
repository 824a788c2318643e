"""`POST /explain`: resolves a request, runs it where it belongs, words the result and has it kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
import orjson

from explain.attribution import Estimate
from explain.caption import PictureFormat, Theme
from explain.methods import needs_shap
from models.database import now
from models.rows import ModelInput
from service.identifiers import new_id
from service.metrics import RequestMeter
from service.schemas import ExplainRequest
from service.serving.cache import ResponseCache, can_be_kept, explanation_key
from service.serving.compute import ComputeClient
from service.serving.explaining import ExplanationOrder, LoadReport
from service.serving.pictures import PictureSource
from service.serving.pool import ModelPool
from service.serving.receipt import needs_report, write_receipt
from service.serving.reference_client import ReferenceClient
from service.serving.resolving import ResolvedRequest, check_request, resolve_request
from service.serving.served_model import ServedModel
from service.serving.turns import decode_in_turns, plain_rows
from service.serving.wording import ExplainedRow, row_document

INLINE_MS = 2.0
"""Explanations priced below this run in the API process."""


@dataclass(frozen=True)
class Explained:
    """An explanation, worded, and what it was worded from.

    Attributes:
        answer: `document` as JSON.
    """

    served: ServedModel
    resolved: ResolvedRequest
    estimates: list[Estimate]
    document: dict[str, Any]
    answer: bytes

    def picture_source(self) -> PictureSource:
        given = self.resolved.order.given_of(0)
        return PictureSource.of(self.document, self.resolved.rows[0], given, self.served.signature, self.estimates)


Keep = Callable[[Explained], Awaitable[bool]]
"""Keeps an explanation for later; False when it could not."""


class Explainer:
    """Explains rows.

    Args:
        keep: is given each explanation before it is answered.
        cache: what gives estimates again; None where each is computed.
    """

    def __init__(
        self,
        pool: ModelPool,
        compute: ComputeClient,
        reference: ReferenceClient,
        keep: Keep,
        cache: ResponseCache[Any] | None = None,
    ) -> None:
        self._pool, self._compute, self._reference, self._keep, self._cache = pool, compute, reference, keep, cache

    async def explain(self, request: ExplainRequest, meter: RequestMeter) -> Explained:
        """Explains every row of a request.

        Raises:
            UnknownModel, UnknownVersion, InvalidRows, InvalidRequest, MethodDoesNotFit, BudgetTooSmall,
            ToleranceNotReached, ComputeUnavailable: as their messages say.
        """
        started = monotonic()
        served, resolved, predictions = await self.resolve(request, meter)
        explained = await self.run(
            served, resolved, predictions, meter, order=resolved.order, identity=(new_id(), now()), started=started
        )
        kept = await self._keep(explained)
        meter.end("record")
        return explained if kept else _marked(explained, recorded=False)

    async def resolve(
        self, request: ExplainRequest, meter: RequestMeter
    ) -> tuple[ServedModel, ResolvedRequest, np.ndarray]:
        """The version that a request asks, the request with nothing left to look up, and its predictions."""
        served = await self._pool.resolve(request.model, str(request.version))
        meter.resolved(served.record.model, served.record.version, len(request.inputs))
        check_request(request, served.signature)
        inputs = await plain_rows(request.inputs, served.signature)
        request = request.model_copy(update={"inputs": inputs})
        rows = await decode_in_turns(inputs, served.signature)
        meter.end("decode")
        predictions = await served.evaluate(rows, served.signature.outputs[0])
        meter.end("engine")
        return served, resolve_request(request, served.signature, rows, predictions), predictions

    async def run(
        self,
        served: ServedModel,
        resolved: ResolvedRequest,
        predictions: np.ndarray,
        meter: RequestMeter,
        *,
        order: ExplanationOrder,
        identity: tuple[str, str],
        started: float,
    ) -> Explained:
        """Runs a resolved request and words it.

        Args:
            predictions: `(n_rows, n_targets)` for the rows.
            order: what to run; the resolved one, or one that repeats an earlier run.
            identity: the id of the explanation, and when it was made.
            started: when work on it began, by the monotonic clock.
        """
        estimates = await self._kept_or_run(served, resolved.rows, order, meter)
        meter.end("estimate")
        explained = await self.word(served, resolved, predictions, estimates, identity=identity, started=started)
        meter.end("word")
        return explained

    async def word(
        self,
        served: ServedModel,
        resolved: ResolvedRequest,
        predictions: np.ndarray,
        estimates: list[Estimate],
        *,
        identity: tuple[str, str],
        started: float,
    ) -> Explained:
        """Words the estimates of a request; arguments as for `run`."""
        receipt = await self.receipt(served, resolved, estimates, started)
        explanation, created_at = identity
        document = {
            "id": explanation,
            "created_at": created_at,
            "model": served.record.model,
            "version": served.record.version,
            "explanations": _row_documents(served, resolved, predictions, estimates),
            # What is kept says that it is kept; `explain` corrects it where it is not.
            "receipt": receipt | {"recorded": True},
        }
        return Explained(served, resolved, estimates, document, to_json(document))

    async def receipt(
        self, served: ServedModel, resolved: ResolvedRequest, estimates: list[Estimate], started: float
    ) -> dict[str, Any]:
        """What estimates took and rest on."""
        report = await self._report(served, estimates[0].method)
        duration_ms = (monotonic() - started) * 1000
        return write_receipt(served, report, resolved, estimates[0], duration_ms)

    async def picture(self, source: PictureSource, *, width: int, theme: Theme, picture_format: PictureFormat) -> bytes:
        """A picture of an explanation of one row and one target: a heatmap for an image, a waterfall for columns.

        Raises:
            InvalidRequest: when there is more than one row, or more than one target.
        """
        kind, drawing = source.drawing()
        picture = {**drawing, "width": width, "theme": theme, "picture_format": picture_format}
        return await asyncio.wrap_future(self._compute.submit(kind, **picture))

    async def _kept_or_run(
        self, served: ServedModel, rows: ModelInput, order: ExplanationOrder, meter: RequestMeter
    ) -> list[Estimate]:
        cache = self._cache
        # A replay is there to find out whether the same comes out again.
        if cache is None or order.evaluations is not None:
            return await self._run(served, rows, order, meter)
        key = explanation_key(served.identity, rows, order)
        estimates, is_hit = await cache.answer(
            "explain", key, lambda: self._run(served, rows, order, meter), is_kept=can_be_kept
        )
        if is_hit:
            meter.end("plan")
        return estimates

    async def _run(
        self, served: ServedModel, rows: ModelInput, order: ExplanationOrder, meter: RequestMeter
    ) -> list[Estimate]:
        explained = served.explained
        if needs_shap(order.method):
            return await self._reference.explain(served, rows, order)
        # Options can need libraries that this process does not import.
        is_cheap = explained is not None and not order.options and explained.plan(rows, order)[1] < INLINE_MS
        meter.end("plan")
        if explained is not None and is_cheap:
            return explained.explain(rows, order)
        return await asyncio.wrap_future(self._compute.submit("explain", key=served.key, rows=rows, order=order))

    async def _report(self, served: ServedModel, method: str) -> LoadReport | None:
        if not needs_report(served, method):
            return None
        # Its load was answered by another thread there: it may arrive just after the explanation.
        return await asyncio.shield(asyncio.wrap_future(served.in_compute))


def _row_documents(
    served: ServedModel, resolved: ResolvedRequest, predictions: np.ndarray, estimates: list[Estimate]
) -> list[dict[str, Any]]:
    order = resolved.order
    worded = zip(served.predictions(predictions), resolved.rows, order.targets, estimates, strict=True)
    return [
        row_document(
            served.signature,
            ExplainedRow(row, prediction, targets, order.options, order.given_of(i)),
            estimate,
            resolved.top_k,
        )
        for i, (prediction, row, targets, estimate) in enumerate(worded)
    ]


def _marked(explained: Explained, *, recorded: bool) -> Explained:
    document = explained.document | {"receipt": explained.document["receipt"] | {"recorded": recorded}}
    return replace(explained, document=document, answer=to_json(document))


def to_json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
