"""`POST /v2/models/{model}[/versions/{version}]/explain`: attributions as tensors.

The protocol has no explanations; this is an extension in its manner. Tensors are sent as to infer, and the options of
`POST /explain` are parameters of the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from starlette.types import Receive, Scope

from explain.attribution import Estimate
from explain.players import share_over_pixels
from models.errors import Fault, InvalidRows, pointer
from models.rows import describe
from models.signature import Signature
from service.bodies import parse_body
from service.errors import InvalidRequest
from service.metrics import Metrics, RequestMeter
from service.receiving import unless_gone
from service.routes.v2.binary import BYTES
from service.routes.v2.infer import A, TensorAnswer, WriteAnswer, received, tensor_answer
from service.routes.v2.matching import arrange, as_json_rows, by_row, raw_input
from service.routes.v2.tensors import (
    NamedArray,
    TensorRequest,
    as_parameters,
)
from service.schemas import ExplainRequest
from service.serving.explainer import Explained, Explainer
from service.serving.pool import ModelPool
from service.serving.traffic import Traffic
from service.serving.wording import player_identities
from service.settings import Settings

PATHS = ("/v2/models/{model}/explain", "/v2/models/{model}/versions/{version}/explain")
OPTIONS = (
    "target", "output", "method", "options", "tolerance", "deadline_ms", "budget", "strict", "seed",
)  # fmt: skip
"""Of `POST /explain`, all but `top_k`: a tensor holds every player."""


class TensorExplanations:
    def __init__(
        self, pool: ModelPool, traffic: Traffic, explainer: Explainer, metrics: Metrics, settings: Settings
    ) -> None:
        self._pool, self._traffic, self._explainer = pool, traffic, explainer
        self._metrics, self._settings = metrics, settings

    async def __call__(self, scope: Scope, receive: Receive, model: str, version: str | None = None) -> TensorAnswer:
        """Raises: NotReadable, BodyTooLarge, and what `explain` raises."""
        meter = self.meter(scope)
        request = await received(scope, receive, self._settings.body_limit_bytes, model)
        return await self.explain(request, scope, receive, meter, tensor_answer, model, version)

    def meter(self, scope: Scope) -> RequestMeter:
        return self._metrics.follow("explain", scope)

    async def explain(
        self,
        request: TensorRequest | memoryview,
        scope: Scope,
        receive: Receive,
        meter: RequestMeter,
        write: WriteAnswer[A],
        model: str,
        version: str | None,
    ) -> A:
        """The answer to a request that has been read, in whatever form: arguments as of `Inference.infer`.

        Raises: what `Explainer.explain` raises, and InvalidRequest.
        """
        served = await self._pool.resolve(model, version or self._traffic.alias(model, scope))
        signature = served.signature
        if isinstance(request, memoryview):
            request = TensorRequest(None, {}, (raw_input(request, signature),), None, binary=True)
        for name in request.parameters.keys() - set(OPTIONS):
            expected = f"one of {', '.join(OPTIONS)}"
            raise InvalidRequest([Fault(pointer("parameters", name), expected, describe(request.parameters[name]))])
        asked = _asked(request, signature)
        rows = as_json_rows(arrange(request.inputs, signature, self._settings.max_rows))
        # From here on the version is known by its number: an alias that moves meanwhile moves nothing here.
        body = {**request.parameters, "model": model, "version": served.record.version, "inputs": rows}
        meter.end("read")
        try:
            order = parse_body(body, ExplainRequest)
            explained = await unless_gone(receive, self._explainer.explain(order, meter))
        except InvalidRows as error:
            raise InvalidRows([by_row(fault, signature) for fault in error.faults]) from None
        except InvalidRequest as error:
            # What is no row is an option, and options are parameters here.
            faults = [replace(fault, pointer=f"#/parameters{fault.pointer[1:]}") for fault in error.faults]
            raise InvalidRequest(faults) from None
        self._metrics.note_explanations(model, explained.estimates)
        answer = await asyncio.to_thread(lambda: write(*_worded(explained, request, asked)))
        meter.end("word")
        return answer


def _asked(request: TensorRequest, signature: Signature) -> dict[str, bool] | None:
    """Which tensors were asked for, and which of them binary; None for all."""
    if request.outputs is None:
        return None
    names = names_of(signature)
    faults = [
        Fault(pointer("outputs", place, "name"), f"one of {', '.join(names)}", describe(output.name))
        for place, output in enumerate(request.outputs)
        if output.name not in names
    ]
    if faults:
        raise InvalidRequest(faults)
    return {output.name: output.binary for output in request.outputs}


COMMON = (
    "attributions", "standard_errors", "base_values", "values", "targets", "efficiency_residuals", "evaluations",
    "stop_reasons",
)  # fmt: skip


def names_of(signature: Signature) -> tuple[str, ...]:
    """The tensors of an explanation of such a version."""
    if signature.kind == "text":
        return (*COMMON, "tokens", "spans")
    return (*COMMON, "windows") if signature.kind == "series" else COMMON


def _worded(
    explained: Explained, request: TensorRequest, asked: dict[str, bool] | None
) -> tuple[dict[str, Any], list[tuple[NamedArray, bool]]]:
    """The answer's members but for the outputs, and the outputs, each with whether it is to be binary."""
    record = explained.served.record
    tensors = explanation_tensors(explained)
    if asked is None:
        asked = dict.fromkeys(tensors, request.binary)
    head = {
        "model_name": record.model,
        "model_version": str(record.version),
        "id": request.id or explained.document["id"],
        "parameters": {
            "explanation": explained.document["id"],
            "created_at": explained.document["created_at"],
            **as_parameters(explained.document["receipt"]),
        },
    }
    return head, [(tensors[name], binary) for name, binary in asked.items()]


def explanation_tensors(explained: Explained) -> dict[str, NamedArray]:
    """An explanation as tensors, by name. The axes: rows, targets, then players (for an image its height and width,
    for a series its windows and channels). What is not known (an error where nothing was sampled, a player that a row
    does not have) is NaN.
    """
    signature, estimates = explained.served.signature, explained.estimates
    labels = np.array(signature.targets, dtype=object)
    targets = np.stack([labels[list(chosen)] for chosen in explained.resolved.order.targets])
    return {
        "attributions": NamedArray("attributions", "FP64", _of_players(explained, "attributions")),
        "standard_errors": NamedArray("standard_errors", "FP64", _of_players(explained, "standard_errors")),
        "base_values": NamedArray("base_values", "FP64", np.stack([e.base_values for e in estimates])),
        "values": NamedArray("values", "FP64", np.stack([e.values for e in estimates])),
        "targets": NamedArray("targets", BYTES, targets),
        "efficiency_residuals": NamedArray(
            "efficiency_residuals", "FP64", np.stack([e.efficiency_residuals for e in estimates])
        ),
        "evaluations": NamedArray("evaluations", "INT64", np.array([e.evaluations for e in estimates])),
        "stop_reasons": NamedArray("stop_reasons", BYTES, np.array([e.stop_reason for e in estimates], dtype=object)),
        **_players_of_rows(explained),
    }


def _of_players(explained: Explained, name: str) -> np.ndarray:
    """`(n_rows, n_targets, ...)` of an array that estimates hold by player and target."""
    signature = explained.served.signature
    arrays = [_on_the_input(getattr(estimate, name), estimate, signature) for estimate in explained.estimates]
    most = max(array.shape[1] for array in arrays)
    if any(array.shape[1] < most for array in arrays):
        arrays = [np.pad(a, ((0, 0), (0, most - a.shape[1])), constant_values=np.nan) for a in arrays]
    return np.stack(arrays).astype(np.float64)


def _on_the_input(values: np.ndarray, estimate: Estimate, signature: Signature) -> np.ndarray:
    """`(n_players, n_targets)` as `(n_targets, ...)`, in the shape of what is explained."""
    if signature.image is not None:
        height, width, _ = signature.image.shape
        if estimate.segments is not None:
            values = share_over_pixels(values, estimate.segments[..., np.newaxis])
        return values.reshape(height, width, -1).transpose(2, 0, 1)
    if signature.series is not None:
        return values.T.reshape(values.shape[1], -1, signature.series.shape[1])
    return values.T


def _players_of_rows(explained: Explained) -> dict[str, NamedArray]:
    """What the players of texts and series are; those of columns are the features, in their order."""
    signature, order, rows = explained.served.signature, explained.resolved.order, explained.resolved.rows
    if signature.series is not None:
        identities = player_identities(signature, rows[0], order.options, {})
        channels = signature.series.shape[1]
        windows = np.array([identity["window"] for identity in identities[::channels]])
        return {"windows": NamedArray("windows", "INT64", windows)}
    if signature.kind != "text":
        return {}
    players = [player_identities(signature, row, order.options, order.given_of(i)) for i, row in enumerate(rows)]
    most = max(map(len, players))
    tokens = _padded([[player["token"] for player in row] for row in players], most, "")
    spans = _padded([[player["span"] for player in row] for row in players], most, [0, 0])
    return {
        "tokens": NamedArray("tokens", BYTES, np.array(tokens, dtype=object)),
        "spans": NamedArray("spans", "INT64", np.array(spans, dtype=np.int64)),
    }


def _padded(rows: Sequence[list[Any]], length: int, filler: Any) -> list[list[Any]]:
    return [row + [filler] * (length - len(row)) for row in rows]
