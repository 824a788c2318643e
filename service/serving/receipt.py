"""The receipt: what an explanation took and rests on."""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache
from typing import Any

from explain.attribution import Estimate
from explain.methods import needs_gradient, needs_shap, rests_on_keras
from explain.reference import SLICE_ROWS as REFERENCE_SLICE_ROWS
from models.artifact import BACKGROUND, KERAS
from service.serving.engine import SLICE_ROWS, instruction_set
from service.serving.explaining import LoadReport
from service.serving.resolving import ResolvedRequest
from service.serving.served_model import ServedModel


def needs_report(served: ServedModel, method: str) -> bool:
    """Whether the compute process has to say what an explanation rests on.

    Methods that take gradients or look at layers run on the Keras model or a graph of its gradient, whatever engine
    predicts; every other one runs on the version's own engine.
    """
    return rests_on_keras(method) or served.engine_name == "tensorflow"


def write_receipt(
    served: ServedModel, report: LoadReport | None, resolved: ResolvedRequest, estimate: Estimate, duration_ms: float
) -> dict[str, Any]:
    """The receipt of a request's explanations.

    Args:
        report: what the compute process says of the version; there if and only if `needs_report`.
        estimate: of the first row; method and estimand are the same for all.
    """
    engine = _engine(report, estimate.method, resolved.order.gradient_engine)
    order, hashes = resolved.order, served.artifact.hashes
    return {
        "method": estimate.method,
        "estimand": estimate.estimand,
        "output": order.output,
        # A layer that was found is named as one that was given.
        "options": dict(order.options) | ({"layer": estimate.layer} if estimate.layer else {}),
        "seed": order.seed,
        "tolerance": order.tolerance,
        "deadline_ms": order.deadline_ms,
        "budget": order.budget,
        "engine": engine,
        "engine_version": _library_version(engine),
        "device": report.device if report and engine == "tensorflow" else "cpu",
        "instruction_set": instruction_set(),
        "slice_rows": _slice_rows(report, estimate.method, engine),
        "model_sha256": hashes[KERAS],
        "background_sha256": hashes[BACKGROUND],
        "background_rows": len(served.artifact.background[0]),
        "duration_ms": round(duration_ms, 3),
        "library_versions": {name: _library_version(name) for name in _libraries(estimate.method)},
    }


def _engine(report: LoadReport | None, method: str, replayed: str | None) -> str:
    """What computed: of gradients the engine that took them."""
    if report is None:
        return "onnxruntime"
    return replayed or report.gradient_engine if needs_gradient(method) else "tensorflow"


def _slice_rows(report: LoadReport | None, method: str, engine: str) -> int:
    if needs_shap(method):
        return REFERENCE_SLICE_ROWS
    return report.gradient_slice_rows[engine] if report and needs_gradient(method) else SLICE_ROWS


def _libraries(method: str) -> tuple[str, ...]:
    return ("vitrine", "keras", "numpy", *(("shap",) if needs_shap(method) else ()))


@lru_cache
def _library_version(name: str) -> str:
    return importlib.metadata.version(name)
