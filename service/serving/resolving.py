"""What a request for explanations means for one version: its faults, its output, the targets of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import Fault, pointer
from models.rows import ModelInput, describe
from models.signature import Signature
from service.errors import InvalidRequest
from service.schemas import ExplainRequest
from service.serving.explaining import ExplanationOrder


@dataclass(frozen=True)
class ResolvedRequest:
    """A request with nothing left to look up.

    Attributes:
        rows: `(n_rows, *input_shape)`.
        order: as it was asked; "auto" is still "auto".
        options: of the method.
        top_k: how many attributions are worded; None for all.
    """

    rows: ModelInput
    order: ExplanationOrder
    options: dict[str, Any]
    top_k: int | None


def check_request(request: ExplainRequest, signature: Signature) -> None:
    """Raises `InvalidRequest` with every value (other than those of rows) that does not fit the version."""
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


def resolve_request(
    request: ExplainRequest, signature: Signature, rows: ModelInput, predictions: np.ndarray
) -> ResolvedRequest:
    """A checked request, once its rows are decoded and predicted, `(n_rows, n_targets)`."""
    order = ExplanationOrder(
        targets=_targets(request, signature, predictions),
        output=request.output or signature.outputs[0],
        method=request.method,
        tolerance=request.tolerance,
        deadline_ms=request.deadline_ms,
        budget=request.budget,
        strict=request.strict,
        seed=request.seed,
    )
    return ResolvedRequest(rows, order, request.options, request.top_k)


def _targets(request: ExplainRequest, signature: Signature, predictions: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Per row, the indices of the targets to explain."""
    if request.target == "predicted":
        return tuple((int(best),) for best in predictions.argmax(axis=1))
    if request.target == "all":
        chosen = tuple(range(len(signature.targets)))
    else:
        names = request.target if isinstance(request.target, list) else [request.target]
        chosen = tuple(dict.fromkeys(signature.targets.index(name) for name in names))
    return (chosen,) * len(predictions)
