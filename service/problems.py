"""Errors as problem documents (RFC 9457): the one table from facts to HTTP statuses."""

from __future__ import annotations

import logging
from math import ceil
from typing import Any

import orjson
import sqlalchemy.exc
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from explain import errors as explanation_errors
from models import errors as model_errors
from models.errors import Fault
from models.rows import describe
from models.validation import in_our_words
from service import errors as service_errors
from service.errors import InvalidRequest, RegistryUnavailable

logger = logging.getLogger("vitrine.api")

CONTENT_TYPE = "application/problem+json"
PROTOCOLS = ("/v1/", "/v2/")
"""Paths of protocols whose errors are `{"error": "..."}`."""
V1_CALLS = (":predict", ":classify", ":regress", ":explain")
"""Ends of paths that are posted to, which a route for models would take for a part of their names."""
_VERBS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_PROTOCOL_STATUSES = frozenset({400, 404, 405, 408, 413, 415, 429, 499, 500, 501, 503, 504})
"""What their servers answer; of what is said here by other statuses, those below 500 are 400, and the rest 500."""
MAX_ERRORS = 100
SHOWN_FAULTS = 10
"""Faults that are named where one string has to hold them all."""

STATUSES: dict[type[Exception], tuple[int, str, str]] = {
    service_errors.NotReadable: (400, "not-readable", "The body cannot be read"),
    model_errors.UnknownModel: (404, "unknown-model", "No such model"),
    model_errors.UnknownVersion: (404, "unknown-version", "No such version or alias"),
    model_errors.NoSurrogate: (404, "no-surrogate", "The version has no surrogate tree"),
    model_errors.UnknownDataset: (404, "unknown-dataset", "No such data set"),
    service_errors.UnknownJob: (404, "unknown-job", "No such job"),
    service_errors.UnknownSchedule: (404, "unknown-schedule", "No such schedule"),
    service_errors.UnknownExplanation: (404, "unknown-explanation", "No such explanation"),
    service_errors.UnknownPrediction: (404, "unknown-prediction", "No such recorded prediction"),
    service_errors.UnknownMethod: (404, "unknown-method", "No such method"),
    service_errors.UnknownService: (404, "unknown-service", "No such service"),
    service_errors.NotAcceptable: (406, "not-acceptable", "No such representation"),
    service_errors.BodyTooSlow: (408, "request-too-slow", "The request took too long to arrive"),
    model_errors.GatesFailed: (409, "gates-failed", "The version failed its gates"),
    model_errors.ComparisonOutdated: (409, "comparison-outdated", "The version was compared with another champion"),
    model_errors.NothingToRollBackTo: (409, "nothing-to-roll-back-to", "There is no earlier version"),
    service_errors.JobStateConflict: (409, "job-state", "The job's state does not allow it"),
    model_errors.Overtaken: (409, "overtaken", "A later attempt has taken over"),
    service_errors.ExplanationJobStateConflict: (409, "explanation-state", "The explanation is finished"),
    service_errors.DatasetInUse: (409, "dataset-in-use", "The data set is needed"),
    service_errors.VersionHasAlias: (409, "version-has-alias", "The version is served"),
    service_errors.VersionPreloaded: (409, "version-preloaded", "The version stays loaded"),
    service_errors.RecordsOff: (409, "records-off", "Explanations are not recorded"),
    model_errors.NoDataset: (409, "no-dataset", "The version has no data set"),
    model_errors.DatasetChanged: (409, "dataset-changed", "The data set has changed"),
    service_errors.ExplanationCancelled: (410, "explanation-cancelled", "The explanation was cancelled"),
    service_errors.VersionGone: (410, "version-gone", "The version is no more"),
    service_errors.InputsNotKept: (409, "inputs-not-kept", "The inputs were not kept"),
    service_errors.InputsRedacted: (409, "inputs-redacted", "Inputs were redacted"),
    service_errors.BodyTooLarge: (413, "body-too-large", "The body is too large"),
    service_errors.UploadTooLarge: (413, "upload-too-large", "The file is too large"),
    service_errors.WrongContentType: (415, "wrong-content-type", "The content type cannot be read"),
    service_errors.InvalidRequest: (422, "invalid-request", "The request cannot be used"),
    service_errors.IdempotencyKeyReused: (422, "idempotency-key-reused", "The key came with another body"),
    model_errors.InvalidRows: (422, "invalid-rows", "Inputs do not fit the signature"),
    model_errors.InvalidSpec: (422, "invalid-spec", "The training specification cannot be run"),
    model_errors.UnreadableData: (422, "unreadable-data", "The file holds no data set"),
    service_errors.InspectionFailed: (422, "inspection-failed", "The file cannot be inspected"),
    model_errors.WarmStartImpossible: (422, "warm-start-impossible", "The weights do not fit the network"),
    model_errors.LossNotFinite: (422, "loss-not-finite", "The loss is not a finite number"),
    model_errors.NotEnoughMemory: (422, "not-enough-memory", "The network does not fit into memory"),
    model_errors.NoGpu: (422, "no-gpu", "There is no GPU"),
    model_errors.UnsafeModelFile: (422, "unsafe-model-file", "The model file cannot be imported"),
    model_errors.ModelDoesNotFit: (422, "model-does-not-fit", "The model does not fit its signature"),
    explanation_errors.MethodDoesNotFit: (422, "method-does-not-fit", "The method does not fit"),
    explanation_errors.LayerDoesNotFit: (422, "layer-does-not-fit", "The layer does not fit"),
    explanation_errors.OptionNotUsable: (422, "option-not-usable", "The option cannot be used"),
    explanation_errors.NotFinite: (422, "not-finite", "A number is not finite"),
    explanation_errors.InvalidHierarchy: (422, "invalid-hierarchy", "The hierarchy does not fit the players"),
    explanation_errors.NothingToDraw: (422, "nothing-to-draw", "There is nothing to draw"),
    explanation_errors.BudgetTooSmall: (422, "budget-too-small", "The budget is too small"),
    explanation_errors.NotDifferentiable: (422, "not-differentiable", "The model has no gradients"),
    explanation_errors.GradientNotFinite: (422, "gradient-not-finite", "The gradient is not finite"),
    explanation_errors.InvalidPlayers: (422, "invalid-players", "Players cannot be made"),
    explanation_errors.ToleranceNotReached: (422, "tolerance-not-reached", "The tolerance was not reached"),
    model_errors.CorruptVersion: (503, "corrupt-version", "The version cannot be loaded"),
    service_errors.ComputeUnavailable: (503, "compute-unavailable", "The compute process is unavailable"),
    service_errors.ComputeBusy: (503, "compute-busy", "Too much is waiting"),
    service_errors.TooManyRowsWaiting: (503, "too-many-rows", "Too many rows are waiting"),
    service_errors.TooManyExplanationJobs: (503, "too-many-explanations", "Too many explanations are waiting"),
    service_errors.ComputeFailed: (500, "compute-failed", "The computation failed"),
    service_errors.VersionUnavailable: (503, "version-unavailable", "The version cannot be loaded now"),
    service_errors.VersionTooLarge: (503, "version-too-large", "The version does not fit into memory"),
    service_errors.NoRoomForVersion: (503, "no-room-for-version", "There is no memory for the version now"),
    service_errors.RegistryUnavailable: (503, "registry-unavailable", "The registry cannot be reached"),
    service_errors.JobsUnavailable: (503, "jobs-unavailable", "The job database cannot be reached"),
    service_errors.RecordsUnavailable: (503, "records-unavailable", "Records cannot be read"),
    service_errors.OutOfTime: (504, "out-of-time", "The request's own time has passed"),
    service_errors.DiskTooSmall: (507, "disk-too-small", "The disk has no room"),
    model_errors.DiskFull: (507, "disk-full", "The disk is full"),
}
_RETRY_AFTER_SECONDS = {
    service_errors.ComputeUnavailable: 10,
    service_errors.ComputeBusy: 1,
    service_errors.TooManyRowsWaiting: 1,
    service_errors.TooManyExplanationJobs: 30,
    service_errors.VersionUnavailable: 5,
    service_errors.RegistryUnavailable: 5,
    service_errors.JobsUnavailable: 5,
    service_errors.RecordsUnavailable: 5,
    model_errors.CorruptVersion: 60,
}
DATABASE_AWAY = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)
"""What SQLAlchemy raises when a database is locked, gone, or has no connection left."""


def problem_document(error: Exception) -> dict[str, Any]:
    """The problem document of an error of ours. Raises `KeyError` for an error that the table does not know."""
    status, slug, title = STATUSES[type(error)]
    document: dict[str, Any] = {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": str(error),
    }
    if faults := getattr(error, "faults", ()):
        document["errors"] = [
            {
                "pointer": fault.pointer,
                "expected": fault.expected,
                "received": fault.received,
                **({"detail": fault.detail} if fault.detail else {}),
            }
            for fault in faults[:MAX_ERRORS]
        ]
        document["error_count"] = len(faults)
    if names := getattr(error, "fitting", None) or getattr(error, "names", None):
        document["available"] = list(names)
    return document


def install(app: FastAPI) -> None:
    """Answers every error that is known with a problem document; the others are answered by the `Entrance`."""
    for error_type in (*STATUSES, *DATABASE_AWAY):
        app.add_exception_handler(error_type, _answer_known)
    app.add_exception_handler(RequestValidationError, _answer_parameters)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _leave)


async def answer_error(request: Request, error: Exception) -> Response:
    """What a route would answer to an error. Raises it again where it is not known."""
    if isinstance(error, ClientDisconnect):
        return await _answer_nobody(request, error)
    return await _answer_known(request, error)


def known_error(error: Exception, place: str) -> Exception:
    """The error of ours that is told of an error, which has a problem document. Raises it again where there is none.

    Args:
        place: what has met it, for the log.
    """
    if isinstance(error, DATABASE_AWAY):
        # The message of the driver names the statement and the path: that is for the log.
        logger.warning("%s: the registry is unavailable: %s", place, error)
        return RegistryUnavailable()
    if type(error) not in STATUSES:
        raise error
    return error


def has_protocol_errors(path: str) -> bool:
    """Whether errors under a path have the form of the protocol that is spoken there."""
    return f"{path}/".startswith(PROTOCOLS)


def worded(document: dict[str, Any], path: str) -> tuple[int, bytes, str]:
    """Status, body and content type of the answer to an error that was met under a path: the problem document, or the
    form of the protocol that is spoken there.
    """
    status = document["status"]
    if not has_protocol_errors(path):
        return status, orjson.dumps(document), CONTENT_TYPE
    if status not in _PROTOCOL_STATUSES:
        status = 400 if status < 500 else 500
    return status, orjson.dumps({"error": in_one_string(document)}), "application/json"


def in_one_string(document: dict[str, Any]) -> str:
    """A problem document for protocols whose errors are one string; faults are named in it."""
    if not (faults := document.get("errors")):
        return document["detail"]
    words = [
        f"{fault['pointer']}: expected {fault['expected']}, received {fault['received']}"
        + (f" ({fault['detail']})" if "detail" in fault else "")
        for fault in faults[:SHOWN_FAULTS]
    ]
    if (more := document["error_count"] - len(words)) > 0:
        words.append(f"and {more} more")
    return f"{document['title']}: {'; '.join(words)}"


def problem_response(document: dict[str, Any], headers: dict[str, str] | None = None, *, path: str = "") -> Response:
    status, body, content_type = worded(document, path)
    return Response(body, status, headers, content_type)


def retry_after_seconds(error: Exception) -> float | None:
    """After how long a request that met an error may succeed; None where time alone does not help."""
    return getattr(error, "retry_after_seconds", None) or _RETRY_AFTER_SECONDS.get(type(error))


async def _answer_known(request: Request, error: Exception) -> Response:
    error = known_error(error, f"{request.method} {request.url.path}")
    seconds = retry_after_seconds(error)
    headers = {"Retry-After": str(max(1, ceil(seconds)))} if seconds else None
    return problem_response(problem_document(error), headers, path=request.scope["path"])


async def _answer_parameters(request: Request, error: Exception) -> Response:
    """Parameters of the path or the query that FastAPI has refused; bodies are read by our own code."""
    assert isinstance(error, RequestValidationError)
    faults = [
        Fault(f"{fault['loc'][0]} parameter {fault['loc'][-1]}", in_our_words(fault), describe(fault["input"]))
        for fault in error.errors()
    ]
    return await _answer_known(request, InvalidRequest(faults))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: f"There is nothing at {request.url.path}. The routes are listed at /docs.",
        405: f"{request.method} is not offered at {request.url.path}.",
    }
    document = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": details.get(error.status_code, error.detail),
    }
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_offered(request))
        document["detail"] += f" Offered: {headers['Allow']}."
    return problem_response(document, headers, path=request.scope["path"])


def _offered(request: Request) -> list[str]:
    """The verbs of a path: Starlette's own `Allow` has those of the first of its routes alone."""
    path = request.scope["path"]
    if path.startswith("/v1/") and path.endswith(V1_CALLS):
        return ["POST"]
    return [
        verb for verb in _VERBS if any(_takes(route, {**request.scope, "method": verb}) for route in request.app.routes)
    ]


def _takes(route: BaseRoute, scope: Scope) -> bool:
    return route.matches(scope)[0] is Match.FULL


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    """The client is gone: nobody reads this, but the metrics count it, as nginx does, under 499."""
    return Response(status_code=499)


async def _leave(_request: Request, error: Exception) -> Response:
    """What nothing here knows is answered further out: without this, Starlette would answer it in its own words."""
    raise error


def unexpected_problem(request_id: str) -> dict[str, Any]:
    """What a user is told of an error that is nobody's fault but ours."""
    return {
        "type": "/problems/internal-error",
        "title": "Internal error",
        "status": 500,
        "detail": f"Something failed that should not. The server's log has the details under {request_id}.",
        "request_id": request_id,
    }


def draining_problem() -> dict[str, Any]:
    """What is answered to a request that was in flight for longer than this process could wait for it."""
    return {
        "type": "/problems/draining",
        "title": "The server is stopping",
        "status": 503,
        "detail": "The server is stopping, and this request did not finish in time. Send it again.",
    }
