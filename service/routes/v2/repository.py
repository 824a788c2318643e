"""The model repository extension: what there is, and loading and unloading it in this process."""

from __future__ import annotations

from typing import Any

from models.errors import Fault, UnknownModel, pointer
from models.registry import CHAMPION
from models.rows import describe
from service.errors import InvalidRequest
from service.routes.v2.tensors import parse_json
from service.serving.pool import ModelPool
from service.serving.served_model import ServedModel


def is_ready(served: ServedModel) -> bool:
    """Whether a loaded version predicts at once; one that only TensorFlow serves waits for the compute process."""
    return served.is_in_compute or not served.needs_compute


def why_not_ready(pool: ModelPool, model: str, version: str) -> str | None:
    """Why a version cannot be asked at once; None where it can be. Asking does not load it.

    Raises:
        UnknownModel, UnknownVersion: as their messages say.
    """
    record = pool.models().get(model)
    if record is None:
        raise UnknownModel(model, list(pool.models()))
    number = record.resolve(version).version
    served = pool.served(model, number)
    if served is not None and is_ready(served):
        return None
    return pool.failure(model, number) or "it is not loaded; a request loads it, or the repository extension"


def ready_alone(body: bytes) -> bool:
    """What a request for the index asks for: `{"ready": true}` for the versions that are ready alone, or nothing."""
    document = parse_json(body) if body else {}
    faults = [
        Fault(pointer(name), "no such member", describe(value)) for name, value in document.items() if name != "ready"
    ]
    if type(document.get("ready", False)) is not bool:
        faults.append(Fault("#/ready", "true or false", describe(document["ready"])))
    if faults:
        raise InvalidRequest(faults)
    return document.get("ready", False)


def index(pool: ModelPool, *, ready: bool) -> list[dict[str, str]]:
    """Every version and its state, or those that are ready alone."""
    entries = [_entry(pool, name, record.version) for name, model in pool.models().items() for record in model.versions]
    return [entry for entry in entries if entry["state"] == "READY" or not ready]


def _entry(pool: ModelPool, model: str, version: int) -> dict[str, str]:
    served = pool.served(model, version)
    if served is not None:
        state, reason = ("READY", "") if is_ready(served) else ("LOADING", "")
    elif pool.is_loading(model, version):
        state, reason = "LOADING", ""
    elif (failure := pool.failure(model, version)) is not None:
        state, reason = "UNAVAILABLE", failure
    else:
        state, reason = "UNAVAILABLE", "unloaded"
    return {"name": model, "version": str(version), "state": state, "reason": reason}


async def load(pool: ModelPool, model: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Loads the version that the parameter `version` says (default: champion) and keeps it loaded."""
    _check(parameters, {"version"})
    served = await pool.load(model, str(parameters.get("version", CHAMPION)))
    return {"name": model, "load": True, "version": str(served.record.version)}


async def unload(pool: ModelPool, model: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Unloads the version that the parameter `version` says (default: every loaded one)."""
    # Nothing depends on a version here: there is nothing to unload with it, whatever `unload_dependents` says.
    _check(parameters, {"version", "unload_dependents"})
    version = parameters.get("version")
    unloaded = await pool.unload(model, None if version is None else str(version))
    return {"name": model, "unload": True, "versions": [str(number) for number in unloaded]}


def parameters_of(body: bytes) -> dict[str, Any]:
    """The parameters in the body of a request, which may be empty."""
    document = parse_json(body) if body else {}
    faults = [
        Fault(pointer(name), "no such member", describe(value))
        for name, value in document.items()
        if name != "parameters"
    ]
    parameters = document.get("parameters")
    if parameters is None:
        parameters = {}
    if type(parameters) is not dict:
        faults.append(Fault("#/parameters", "an object", describe(parameters)))
    if faults:
        raise InvalidRequest(faults)
    return parameters


def _check(parameters: dict[str, Any], names: set[str]) -> None:
    faults = []
    for name, value in parameters.items():
        place = pointer("parameters", name)
        if name not in names:
            expected = "no such parameter: versions come from training jobs and imports, and are not changed"
            faults.append(Fault(place, expected, describe(value)))
        elif name == "unload_dependents" and type(value) is not bool:
            faults.append(Fault(place, "true or false", describe(value)))
        elif name == "version" and type(value) not in (int, str):
            faults.append(Fault(place, "a version number or an alias", describe(value)))
    if faults:
        raise InvalidRequest(faults)
