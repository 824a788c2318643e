"""`POST /explain`: prices an explanation, sends it where it belongs, and words the result."""

from __future__ import annotations

import asyncio
import importlib.metadata
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any

import numpy as np

from explain.attribution import Estimate
from explain.caption import Caption, Theme
from models.artifact import BACKGROUND, KERAS
from models.database import now
from models.errors import Fault, pointer
from models.rows import ModelInput, decode_rows, describe
from models.signature import Signature
from service.errors import InvalidRequest
from service.identifiers import new_id
from service.metrics import RequestMeter
from service.schemas import ExplainRequest
from service.serving.compute import ComputeClient
from service.serving.engine import SLICE_ROWS, instruction_set
from service.serving.explaining import ExplanationOrder, LoadReport
from service.serving.pool import ModelPool
from service.serving.served_model import ServedModel

INLINE_MS = 2.0
"""Explanations priced below this run in the API process."""


@dataclass(frozen=True)
class Explained:
    """An explanation and what a picture of it needs."""

    served: ServedModel
    rows: ModelInput
    request: ExplainRequest
    output: str
    targets: tuple[tuple[int, ...], ...]
    estimates: list[Estimate]
    document: dict[str, Any]


class Explainer:
    def __init__(self, pool: ModelPool, compute: ComputeClient) -> None:
        self._pool, self._compute = pool, compute

    async def explain(self, request: ExplainRequest, meter: RequestMeter) -> Explained:
        """Explains every row of a request.

        Raises:
            UnknownModel, UnknownVersion, InvalidRows, InvalidRequest, MethodDoesNotFit, BudgetTooSmall,
            ToleranceNotReached, ComputeUnavailable: as their messages say.
        """
        started = monotonic()
        served = await self._pool.resolve(request.model, str(request.version))
        meter.resolved(served.record.model, served.record.version, len(request.inputs))
        signature = served.signature
        _check_request(request, signature)
        rows = decode_rows(request.inputs, signature)
        meter.end("decode")
        predictions = await served.evaluate(rows, signature.outputs[0])
        meter.evaluated(served.engine_name, len(rows))
        output = request.output or signature.outputs[0]
        order = ExplanationOrder(
            targets=_resolve_targets(request, signature, predictions),
            output=output,
            method=request.method,
            tolerance=request.tolerance,
            deadline_ms=request.deadline_ms,
            budget=request.budget,
            strict=request.strict,
            seed=request.seed,
        )
        estimates = await self._run(served, rows, order, meter)
        meter.end("estimate")
        report = await self._report(served, estimates[0].method)
        duration_ms = (monotonic() - started) * 1000
        document = {
            "id": new_id(),
            "created_at": now(),
            "model": served.record.model,
            "version": served.record.version,
            "explanations": [
                _row_document(request, signature, prediction, row, targets, estimate)
                for prediction, row, targets, estimate in zip(
                    served.predictions(predictions), rows, order.targets, estimates, strict=True
                )
            ],
            "receipt": _receipt(served, report, request, output, estimates, duration_ms),
        }
        return Explained(served, rows, request, output, order.targets, estimates, document)

    async def picture(self, explained: Explained, *, width: int, theme: Theme) -> bytes:
        """A PNG of an explanation of one row and one target: a heatmap for an image, a waterfall for columns."""
        (row,), (estimate,), ((target,),) = explained.rows, explained.estimates, explained.targets
        signature, record = explained.served.signature, explained.served.record
        prediction = explained.document["explanations"][0]["prediction"]
        name = signature.targets[target]
        caption = Caption(
            title=f"{record.model} v{record.version}: {_in_words(prediction, signature.target)}",
            output=f"{explained.output} of {name}" if signature.labels else name,
            method=f"{estimate.method}, {estimate.evaluations:,} evaluations",
            base_value=float(estimate.base_values[0]),
            value=float(estimate.values[0]),
        )
        attributions = estimate.attributions[:, 0]
        common = {"caption": caption, "width": width, "theme": theme}
        if signature.image:
            shape = signature.image.shape[:2]
            values = {"value_range": signature.image.value_range, "attributions": attributions.reshape(shape)}
            order = self._compute.submit("heatmap", image=row, **values, **common)
        else:
            values = {"names": list(signature.feature_names), "values": row.tolist(), "attributions": attributions}
            order = self._compute.submit("waterfall", half_widths=estimate.half_widths[:, 0], **values, **common)
        return await asyncio.wrap_future(order)

    async def _run(
        self, served: ServedModel, rows: ModelInput, order: ExplanationOrder, meter: RequestMeter
    ) -> list[Estimate]:
        explained = served.explained
        is_cheap = explained is not None and explained.plan(rows, order)[1] < INLINE_MS
        meter.end("plan")
        if explained is not None and is_cheap:
            return explained.explain(rows, order, None)
        return await asyncio.wrap_future(self._compute.submit("explain", key=served.key, rows=rows, order=order))

    async def _report(self, served: ServedModel, method: str) -> LoadReport | None:
        """What the compute process says of a version, where TensorFlow computed its explanation."""
        if method == "exact" and served.engine_name == "onnxruntime":
            return None
        # Its load was answered by another thread there: it may arrive just after the explanation.
        return await asyncio.shield(asyncio.wrap_future(served.in_compute))


def _check_request(request: ExplainRequest, signature: Signature) -> None:
    faults = []
    if request.output is not None and request.output not in signature.outputs:
        expected = f"one of {', '.join(signature.outputs)}"
        faults.append(Fault("#/output", expected, describe(request.output)))
    if isinstance(request.target, list) or request.target not in ("predicted", "all"):
        names = request.target if isinstance(request.target, list) else [request.target]
        expected = 'one of "predicted", "all", ' + ", ".join(signature.targets)
        for i, name in enumerate(names):
            if name not in signature.targets:
                place = f"#/target/{i}" if isinstance(request.target, list) else "#/target"
                faults.append(Fault(place, expected, describe(name)))
    if request.options:
        expected = f"no options: method {request.method!r} has none"
        faults.extend(Fault(pointer("options", name), expected, describe(v)) for name, v in request.options.items())
    if request.top_k is not None and signature.image:
        faults.append(Fault("#/top_k", "null: a heatmap always has all its pixels", describe(request.top_k)))
    if faults:
        raise InvalidRequest(faults)


def _resolve_targets(
    request: ExplainRequest, signature: Signature, predictions: np.ndarray
) -> tuple[tuple[int, ...], ...]:
    """Per row, the indices of the targets to explain."""
    if request.target == "predicted":
        return tuple((int(best),) for best in predictions.argmax(axis=1))
    if request.target == "all":
        chosen = tuple(range(len(signature.targets)))
    else:
        names = request.target if isinstance(request.target, list) else [request.target]
        chosen = tuple(dict.fromkeys(signature.targets.index(name) for name in names))
    return (chosen,) * len(predictions)


def _row_document(
    request: ExplainRequest,
    signature: Signature,
    prediction: dict[str, Any],
    row: ModelInput,
    targets: tuple[int, ...],
    estimate: Estimate,
) -> dict[str, Any]:
    residuals = estimate.efficiency_residuals
    return {
        "prediction": prediction,
        "evaluations": estimate.evaluations,
        "stop_reason": estimate.stop_reason,
        "targets": [
            {
                "target": signature.targets[target],
                "base_value": float(estimate.base_values[t]),
                "value": float(estimate.values[t]),
                **_attributions(
                    signature, row, estimate.attributions[:, t], estimate.standard_errors[:, t], request.top_k
                ),
                "efficiency_residual": float(residuals[t]),
                "max_standard_error": float(estimate.standard_errors[:, t].max()),
            }
            for t, target in enumerate(targets)
        ],
    }


def _attributions(
    signature: Signature, row: ModelInput, attributions: np.ndarray, errors: np.ndarray, top_k: int | None
) -> dict[str, Any]:
    if signature.image:
        shape = signature.image.shape[:2]
        heatmap = {
            "feature": signature.image.name,
            "shape": list(shape),
            "attributions": attributions.reshape(shape).tolist(),
            "standard_errors": errors.reshape(shape).tolist(),
        }
        return {"heatmap": heatmap, "omitted": 0.0}
    kept = np.arange(len(attributions))
    if top_k is not None:
        kept = np.argsort(-np.abs(attributions), kind="stable")[:top_k]
    return {
        "attributions": [
            {
                "feature": signature.features[i].name,
                "value": row[i],
                "attribution": float(attributions[i]),
                "standard_error": float(errors[i]),
            }
            for i in kept
        ],
        "omitted": float(np.delete(attributions, kept).sum()),
    }


def _receipt(
    served: ServedModel,
    report: LoadReport | None,
    request: ExplainRequest,
    output: str,
    estimates: list[Estimate],
    duration_ms: float,
) -> dict[str, Any]:
    """What the explanations took and rest on."""
    first = estimates[0]
    engine = "tensorflow" if report else "onnxruntime"
    hashes = served.artifact.hashes
    return {
        "method": first.method,
        "estimand": first.estimand,
        "output": output,
        "options": request.options,
        "seed": request.seed,
        "tolerance": request.tolerance,
        "deadline_ms": request.deadline_ms,
        "budget": request.budget,
        "engine": engine,
        "engine_version": _library_version(engine),
        "device": report.device if report else "cpu",
        "instruction_set": instruction_set(),
        "slice_rows": report.gradient_slice_rows if report and first.method != "exact" else SLICE_ROWS,
        "model_sha256": hashes[KERAS],
        "background_sha256": hashes[BACKGROUND],
        "background_rows": len(served.artifact.background[0]),
        "duration_ms": round(duration_ms, 3),
        "library_versions": {name: _library_version(name) for name in ("vitrine", "keras", "numpy")},
    }


@lru_cache
def _library_version(name: str) -> str:
    return importlib.metadata.version(name)


def _in_words(prediction: dict[str, Any], target: str) -> str:
    if "label" not in prediction:
        return f"{target} {prediction['value']:.4g}"
    return f"{prediction['label']} ({prediction['probabilities'][prediction['label']]:.2f})"
