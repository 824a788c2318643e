"""An explanation job as it is stored: what was asked, with what it needs to be done in another process's life."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from models.rows import ModelInput
from service.records.jobs import ExplanationJob
from service.schemas import GlobalExplainRequest
from service.serving.explaining import ExplanationOrder
from service.serving.resolving import ResolvedRequest
from service.serving.served_model import ServedModel


def rows_job(served: ServedModel, resolved: ResolvedRequest, identity: tuple[str, str]) -> ExplanationJob:
    """The job of a request to `POST /explain` that is answered later."""
    request = asdict(resolved.order) | {"top_k": resolved.top_k}
    del request["evaluations"], request["gradient_engine"]
    return _job(served, "rows", request, resolved.rows, identity)


def global_job(
    served: ServedModel, request: GlobalExplainRequest, rows: ModelInput | None, identity: tuple[str, str]
) -> ExplanationJob:
    """The job of a request to `POST /explain/global`; `rows` where it sent some, decoded."""
    return _job(served, "global", request.model_dump(exclude={"inputs", "model", "version"}), rows, identity)


def resolved_of(job: ExplanationJob) -> ResolvedRequest:
    """What a job of the scope "rows" was asked."""
    request = orjson.loads(job.request)
    top_k, targets = request.pop("top_k"), tuple(tuple(row) for row in request.pop("targets"))
    rows = rows_of(job)
    assert rows is not None
    return ResolvedRequest(rows, ExplanationOrder(targets=targets, **request), top_k)


def global_request_of(job: ExplanationJob) -> GlobalExplainRequest:
    """What a job of the scope "global" was asked, without its rows."""
    return GlobalExplainRequest(model=job.model, version=job.version, **orjson.loads(job.request))


def rows_of(job: ExplanationJob) -> ModelInput | None:
    return None if job.inputs is None else np.load(io.BytesIO(job.inputs), allow_pickle=False)


def _job(
    served: ServedModel, scope: str, request: dict[str, Any], rows: ModelInput | None, identity: tuple[str, str]
) -> ExplanationJob:
    inputs = None
    if rows is not None:
        file = io.BytesIO()
        np.save(file, rows, allow_pickle=False)
        inputs = file.getvalue()
    return ExplanationJob(
        id=identity[0],
        created_at=identity[1],
        model=served.record.model,
        version=served.record.version,
        scope=scope,
        request=orjson.dumps(request).decode(),
        inputs=inputs,
        total_rows=None if rows is None else len(rows),
    )
