"""What MLflow is told about a version: a run, its artifacts, a registered version, aliases.

Writing twice what was written before changes nothing: a run is found again by its job, a registered version by its run.
MLflow is an extra and takes seconds to import, so that only `open_tracking` imports it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from models.artifact import MANIFEST, Artifact, open_version
from models.errors import TrackingNotUsable
from models.registry import VersionRecord

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
JOB_TAG, VERSION_TAG = "vitrine.job", "vitrine.version"
ARTIFACT_PATH = "version"
_PARAMS_PER_CALL, _METRICS_PER_CALL = 100, 1000
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_PARAM_NAME = re.compile(r"[\w\-. :/]{1,250}")

_ENVIRONMENT = {
    # Telemetry is on by default and looks up a host of its maker's.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Its own handlers would write past the log of this process, which hides secrets.
    "MLFLOW_CONFIGURE_LOGGING": "false",
    # It prints the address of each run, password and all.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_ENVIRONMENT_DEFAULTS = {
    # Left alone, a call to a server that is away takes four minutes; the mirror tries again by itself.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(frozen=True, slots=True)
class TrackedVersion:
    """Where a version of ours is in MLflow, which numbers by itself."""

    run: str
    version: int


def check_tracking(uri: str | None) -> str:
    """The tracking URI of a mirror that can be started; imports nothing.

    Raises:
        TrackingNotUsable: when there is none, it is of no kind that MLflow takes, or MLflow is not installed.
    """
    if uri is None:
        raise TrackingNotUsable(
            "There is no MLflow to mirror to. Set VITRINE_MLFLOW_TRACKING_URI, for example to http://mlflow:5000 "
            "or sqlite:////srv/mlflow.sqlite."
        )
    if importlib.util.find_spec("mlflow") is None:
        raise TrackingNotUsable(
            "MLflow is not installed. Install the extra (pip install 'vitrine[tracking]'), "
            "or unset VITRINE_MLFLOW_TRACKING_URI to go without the mirror."
        )
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme not in SCHEMES:
        raise TrackingNotUsable(
            f"VITRINE_MLFLOW_TRACKING_URI: expected {', '.join(f'{s}://' for s in SCHEMES)}; "
            f"received {f'{scheme}://...' if scheme else 'a text without ://'}."
        )
    return uri


def public_address(uri: str) -> str:
    """A tracking URI as it may be shown and stored: without password and query."""
    place = urlsplit(uri).netloc
    user, at, host = place.rpartition("@")
    return uri.partition("#")[0].partition("?")[0].replace(place, f"{user.partition(':')[0]}{at}{host}", 1)


def without_secrets(text: str, uri: str) -> str:
    """A text (a log line, an error) in which nothing of a tracking URI's password and query is left."""
    parts = urlsplit(uri)
    password = parts.netloc.rpartition("@")[0].partition(":")[2]
    text = text.replace(uri, public_address(uri))
    for secret in sorted({password, unquote(password), parts.query, unquote(parts.query)} - {""}, key=len)[::-1]:
        text = text.replace(secret, "***")
    return text


def mlflow_alias(alias: str) -> str:
    """Our alias in MLflow, which keeps `latest` and `v3` for itself. No alias of ours holds an underscore."""
    return f"vitrine_{alias}" if _RESERVED_ALIAS.fullmatch(alias) else alias


def number_alias(version: int) -> str:
    """The alias under which a version of ours is found in MLflow, whatever number it has there."""
    return f"vitrine_{version}"


def params_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """A specification as flat texts: `training.epochs` -> "50". Lists, and keys that MLflow refuses, stay JSON."""

    def flatten(value: Any, name: str) -> Iterator[tuple[str, str]]:
        names = [f"{name}.{key}" if name else str(key) for key in value] if isinstance(value, Mapping) else []
        if names and all(_PARAM_NAME.fullmatch(each) for each in names):
            for each, part in zip(names, value.values(), strict=True):
                yield from flatten(part, each)
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return dict(flatten(spec, ""))


def metrics_of(card: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """Name, value and step of every figure of a card: `test_accuracy` at step 0, and the curves by epoch."""
    measured = [(f"test_{name}", value, 0) for name, value in card["evaluation"]["metrics"].items()]
    curves = card["training"]["curves"]
    by_epoch = [(name, value, epoch) for name, values in curves.items() for epoch, value in enumerate(values, start=1)]
    return [(name, float(value), step) for name, value, step in chain(measured, by_epoch) if _is_figure(value)]


def open_tracking(uri: str, artifacts: Path) -> Tracking:
    """Connects to MLflow, telemetry off; where it is a database, it is created or migrated.

    Args:
        artifacts: the folder of artifacts where MLflow is a database; a server has its own place for them.
    """
    os.environ.update(_ENVIRONMENT)
    for name, value in _ENVIRONMENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    is_server = urlsplit(uri).scheme in ("http", "https")
    return Tracking(
        MlflowClient(tracking_uri=uri, registry_uri=uri), None if is_server else artifacts.resolve().as_uri()
    )


class Tracking:
    """One MLflow. Each of its methods may fail in any way that a network, a database or MLflow can."""

    def __init__(self, client: Any, artifact_location: str | None) -> None:
        self._client, self._artifact_location = client, artifact_location

    def probe(self) -> None:
        """Returns when MLflow answers, and raises whatever it raises when it does not."""
        self._client.search_experiments(max_results=1)

    def write_version(self, record: VersionRecord) -> TrackedVersion:
        """Writes a version, or what is missing of it.

        Raises:
            CorruptVersion: when its files are not what was registered.
        """
        artifact = open_version(record)
        run = self._run(record, artifact.card)
        run_id = run.info.run_id
        if run.info.status != "FINISHED":
            self._write_run(run_id, artifact)
        found = self._client.search_model_versions(f"run_id = '{run_id}'")
        held = [each for each in found if each.name == record.model]
        if not held:
            source = f"{run.info.artifact_uri}/{ARTIFACT_PATH}"
            held = [self._create_version(record, source, run_id)]
        return TrackedVersion(run_id, min(int(each.version) for each in held))

    def versions(self, model: str) -> dict[str, int]:
        """MLflow's numbers of the versions of a model that were written here, by job."""
        held: dict[str, int] = {}
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{model}'", max_results=200, page_token=token)
            for each in page:
                if (job := each.tags.get(JOB_TAG)) is not None:
                    held[job] = min(int(each.version), held.get(job, int(each.version)))
            if not (token := page.token):
                return held

    def aliases(self, model: str) -> dict[str, int]:
        """The aliases of a registered model in MLflow, whoever set them."""
        return {alias: int(version) for alias, version in self._client.get_registered_model(model).aliases.items()}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Points an alias at one of MLflow's numbers."""
        self._client.set_registered_model_alias(model, alias, str(version))

    def delete_alias(self, model: str, alias: str) -> None:
        self._client.delete_registered_model_alias(model, alias)

    def _experiment(self, model: str) -> str:
        name = f"vitrine/{model}"
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = f"{self._artifact_location}/{model}" if self._artifact_location else None
            return self._client.create_experiment(name, artifact_location=location)
        if experiment.lifecycle_stage == "deleted":
            # Its name stays taken, so that no other can be made.
            self._client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id

    def _run(self, record: VersionRecord, card: Mapping[str, Any]) -> Any:
        experiment = self._experiment(record.model)
        found = self._client.search_runs([experiment], f"tags.`{JOB_TAG}` = '{record.job}'", max_results=1)
        if found:
            return found[0]
        return self._client.create_run(
            experiment,
            start_time=_milliseconds(record.created_at),
            run_name=f"{record.model} {record.version}",
            tags={
                **_tags(record),
                "vitrine.data_sha256": str(card["data"]["sha256"]),
                "vitrine.vitrine_version": str(card["library_versions"]["vitrine"]),
                "mlflow.source.name": "vitrine",
                "mlflow.source.type": "JOB",
                "mlflow.user": "vitrine",
            },
        )

    def _write_run(self, run_id: str, artifact: Artifact) -> None:
        """Everything of a run, in an order and with times that make a second writing the same as the first."""
        from mlflow.entities import Metric, Param

        card = artifact.card
        created = _milliseconds(card["created_at"])
        params = [Param(name, value) for name, value in params_of(card["spec"]).items()]
        metrics = [Metric(name, value, created, step) for name, value, step in metrics_of(card)]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_PER_CALL])
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_CALL])
        for name in sorted([*artifact.hashes, MANIFEST]):
            self._client.log_artifact(run_id, str(artifact.directory / name), ARTIFACT_PATH)
        self._client.set_terminated(run_id, "FINISHED", created)

    def _create_version(self, record: VersionRecord, source: str, run_id: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(record.model, tags={"vitrine.model": record.model})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._client.create_model_version(
            record.model,
            source,
            run_id=run_id,
            tags=_tags(record),
            description=f"Version {record.version} of {record.model} in Vitrine, from job {record.job}.",
            await_creation_for=0,
        )


def _tags(record: VersionRecord) -> dict[str, str]:
    failed = [gate["gate"] for gate in record.gates if not gate["passed"]]
    return {
        "vitrine.model": record.model,
        VERSION_TAG: str(record.version),
        JOB_TAG: record.job,
        "vitrine.gates": f"failed: {', '.join(failed)}" if failed else "passed" if record.gates else "none",
    }


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
