"""What a request for explanations means for one version: its faults, its output, the targets of each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explain.methods import check_method, method_option_faults, resolve_options
from models.encoding.reading import given_strings
from models.errors import Fault, pointer
from models.rows import ModelInput, describe
from models.signature import Signature
from service.errors import InvalidRequest
from service.schemas import ExplainRequest, GlobalExplainRequest
from service.serving.explaining import ExplanationOrder
from service.serving.players import kind_of


@dataclass(frozen=True)
class ResolvedRequest:
    """A request with nothing left to look up.

    Attributes:
        rows: `(n_rows, *input_shape)`.
        order: as it was asked; "auto" is still "auto".
        top_k: how many attributions are worded; None for all.
    """

    rows: ModelInput
    order: ExplanationOrder
    top_k: int | None


def check_request(request: ExplainRequest | GlobalExplainRequest, signature: Signature) -> None:
    """Checks every value of a request, other than those of rows, against the version.

    Raises:
        MethodDoesNotFit: naming the methods that do.
        InvalidRequest: with every other value that does not fit.
    """
    kind = kind_of(signature)
    check_method(request.method, kind)
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
    faults += [
        Fault(pointer("options", name), expected, describe(request.options[name]))
        for name, expected in method_option_faults(request.method, kind, request.options)
    ]
    if isinstance(request, GlobalExplainRequest) and signature.text is not None:
        expected = "a model of columns, images or series: the words of one text are not those of another"
        cure = "Send the texts to POST /explain, which gives each word of each of them its attribution"
        faults.append(Fault("#/model", expected, "a model of texts", cure))
    if request.options.get("interactions") and signature.image and request.options.get("segments") is None:
        expected = "options.segments too: there are too many pairs of pixels"
        faults.append(Fault("#/options/interactions", expected, describe(request.options["interactions"])))
    if isinstance(request, ExplainRequest) and request.top_k is not None and signature.image:
        faults.append(Fault("#/top_k", "null: a heatmap always has all its pixels", describe(request.top_k)))
    if faults:
        raise InvalidRequest(faults)


def resolve_request(
    request: ExplainRequest | GlobalExplainRequest, signature: Signature, rows: ModelInput, predictions: np.ndarray
) -> ResolvedRequest:
    """A checked request, once its rows are decoded and predicted, `(n_rows, n_targets)`."""
    order = ExplanationOrder(
        targets=_targets(request, signature, predictions),
        output=request.output or signature.outputs[0],
        method=request.method,
        tolerance=request.tolerance,
        # That of a global explanation is of each row.
        deadline_ms=request.deadline_ms * (len(rows) if isinstance(request, GlobalExplainRequest) else 1),
        budget=request.budget,
        strict=request.strict,
        seed=request.seed,
        options=resolve_options(request.method, kind_of(signature), request.options),
        given=given_strings(request.inputs, signature) if isinstance(request, ExplainRequest) else (),
    )
    return ResolvedRequest(rows, order, None if isinstance(request, GlobalExplainRequest) else request.top_k)


def _targets(
    request: ExplainRequest | GlobalExplainRequest, signature: Signature, predictions: np.ndarray
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
