"""Every setting, read once from the environment (`VITRINE_*`), all faults reported at once."""

from __future__ import annotations

import csv
import io
import math
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from models.cores import usable_cores
from models.sources.limits import EXPANDED_LIMIT_BYTES
from service.logs import LogFormat, LogLevel, hide_passwords
from service.serving.engine_report import Asked, Precision

PREFIX = "VITRINE_"


class SettingsError(Exception):
    """One or more settings cannot be used; the message names each."""


def _database_url(url: str) -> str:
    if not url.startswith(("sqlite:///", "postgres://", "postgresql://", "postgresql+psycopg://")):
        raise ValueError("expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")
    return url


def _server_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("expected http://HOST:PORT or https://HOST")
    return url.rstrip("/")


def _part(value: object) -> float:
    named = {"off": 0.0, "all": 1.0}
    try:
        part = named.get(str(value).lower())
        part = float(str(value)) if part is None else part
    except ValueError:
        part = math.nan
    if not 0 <= part <= 1:
        raise ValueError("expected off, all, or a part of the predictions such as 0.05")
    return part


def _port_or_off(value: object) -> object:
    return None if str(value).lower() == "off" else value


Preloaded = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,62}(@([a-z][a-z0-9-]{0,62}|[0-9]{1,18}))?)$")]
"""`*`, or a model with or without `@` and an alias or a number."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]


class Settings(BaseModel):
    """The settings of every process. Each field is the environment variable `VITRINE_<NAME>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Path("var")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    grpc_port: Annotated[
        Annotated[int, Field(ge=0, le=65535)] | None,
        BeforeValidator(_port_or_off),
        Field(description="where gRPC is served; default: off"),
    ] = None
    database_url: Annotated[
        DatabaseUrl | None, Field(repr=False, description="registry; default: vitrine.sqlite in the home")
    ] = None
    jobs_database_url: Annotated[
        DatabaseUrl | None, Field(repr=False, description="jobs; default: jobs.sqlite in the home")
    ] = None
    worker_id: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="who a worker is, across its restarts")
    ] = None
    worker_silence_seconds: Annotated[
        float, Field(ge=1, description="a worker silent for so long has its jobs taken over")
    ] = 30.0
    cores: Annotated[
        int | None,
        Field(ge=1, description="cores to compute with; default: what affinity and the control group's quota allow"),
    ] = None
    engine: Annotated[
        Asked, Field(description="what predicts; auto: what is faster of the engines that say what Keras says")
    ] = "auto"
    openvino_precision: Annotated[
        Precision, Field(description="what OpenVINO computes in; bfloat16 is coarser, and faster where there is AMX")
    ] = "float32"
    trainers: Annotated[
        int | None,
        Field(ge=1, description="training jobs a worker runs at once; default: one per GPU, without a GPU two"),
    ] = None
    job_minutes: Annotated[
        float | None, Field(gt=0, description="time a trainer may take where the job's limits say nothing")
    ] = None
    job_memory_mib: Annotated[
        int | None, Field(ge=64, description="memory a trainer may hold where the job's limits say nothing")
    ] = None
    max_rows: Annotated[int, Field(ge=1, description="rows a request may hold")] = 1024
    body_limit_bytes: Annotated[int, Field(ge=1024)] = 16 * 2**20
    import_limit_bytes: Annotated[int, Field(ge=1024)] = 512 * 2**20
    dataset_limit_bytes: Annotated[int, Field(ge=1024, description="size of an uploaded data set")] = 2**30
    dataset_expanded_limit_bytes: Annotated[
        int, Field(ge=1024, description="size of a data set once it is unpacked and read into memory")
    ] = EXPANDED_LIMIT_BYTES
    upload_timeout_ms: Annotated[
        int, Field(ge=100, description="time an upload may take, if it goes on arriving all the while")
    ] = 3_600_000
    inspection_seconds: Annotated[float, Field(ge=1, description="time a look through a data set may take")] = 600.0
    receive_timeout_ms: Annotated[
        int, Field(ge=100, description="time a request's head, and then its body, may take")
    ] = 30_000
    keep_alive_seconds: Annotated[
        int, Field(ge=1, description="time a connection may be idle between two requests before it is closed")
    ] = 75
    refresh_ms: Annotated[int, Field(ge=50, description="how often alias moves are looked for")] = 500
    loaded_versions: Annotated[int, Field(ge=1, description="versions kept loaded beside those with an alias")] = 8
    max_waiting_rows: Annotated[
        int, Field(ge=1, description="rows that may wait for one version before requests are refused with 503")
    ] = 16384
    pad_batches: Annotated[
        bool, Field(description="every call of an engine has 32 rows: a row's bits never depend on the others' number")
    ] = False
    model_memory_bytes: Annotated[
        int | None, Field(ge=2**20, description="memory that loaded versions may take; default: by the machine's")
    ] = None
    preload: Annotated[
        tuple[Preloaded, ...],
        Field(description="NAME, NAME@ALIAS or NAME@VERSION: loaded at the start and kept; *: the rest while room is"),
    ] = ("*",)
    cache_bytes: Annotated[
        int, Field(ge=0, description="memory for answers that are given again to the same question; 0: none is kept")
    ] = 0
    mlflow_tracking_uri: Annotated[
        str | None, Field(min_length=1, description="MLflow that versions are mirrored to; unset: none")
    ] = None

    keep_versions: Annotated[
        int | None, Field(ge=1, description="latest versions kept of each model beside those in use; default: all")
    ] = None
    checkpoint_retention_days: Annotated[
        float, Field(gt=0, description="how long checkpoints of failed and cancelled jobs are kept")
    ] = 14.0

    record_explanations: Annotated[bool, Field(description="explanations can be found by id, and replayed")] = True
    explanation_retention_days: Annotated[int, Field(ge=1, description="how long explanations are kept")] = 7
    record_predictions: Annotated[
        float, BeforeValidator(_part), Field(description="which predictions are kept: off, all, or a part such as 0.05")
    ] = 0.0
    prediction_retention_days: Annotated[int, Field(ge=1, description="how long predictions are kept")] = 7
    keep_predictions: Annotated[int, Field(ge=1, description="latest recorded predictions that are kept")] = 1_000_000
    record_inputs: Annotated[bool, Field(description="records hold the values that were predicted or explained")] = True
    redacted_features: Annotated[
        tuple[str, ...], Field(description="names of features whose values no record holds")
    ] = ()
    log_format: Annotated[LogFormat, Field(description="text for people, json for machines")] = "text"
    log_level: LogLevel = "INFO"
    drain_seconds: Annotated[
        float, Field(ge=0, le=600, description="after SIGTERM: how long requests are still taken, readiness being 503")
    ] = 1.0
    stop_seconds: Annotated[
        float, Field(ge=0, le=3600, description="then: how long the requests in flight have to finish")
    ] = 10.0
    url: Annotated[
        Annotated[str, AfterValidator(_server_url)] | None,
        Field(repr=False, description="the server that the command line talks to; default: host and port"),
    ] = None

    @property
    def server_url(self) -> str:
        """Where the command line finds the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return self.url or f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def worker_name(self) -> str:
        return self.worker_id or socket.gethostname()

    @property
    def cores_in_use(self) -> int:
        """Cores that each process computes with."""
        return self.cores or usable_cores()

    def trainers_at_once(self, n_gpus: int) -> int:
        """Jobs that a worker with so many GPUs runs at once: no two of them share one."""
        if n_gpus:
            return min(self.trainers or n_gpus, n_gpus)
        return self.trainers or min(2, self.cores_in_use)

    @property
    def registry_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home.resolve() / 'vitrine.sqlite'}"

    @property
    def jobs_url(self) -> str:
        return self.jobs_database_url or f"sqlite:///{self.home.resolve() / 'jobs.sqlite'}"

    @property
    def versions_directory(self) -> Path:
        return self.home.resolve() / "versions"

    @property
    def data_directory(self) -> Path:
        return self.home.resolve() / "data"

    @property
    def checkpoints_directory(self) -> Path:
        return self.home.resolve() / "checkpoints"

    @property
    def imports_directory(self) -> Path:
        return self.home.resolve() / "imports"

    @property
    def logs_directory(self) -> Path:
        return self.home.resolve() / "logs"

    @property
    def run_directory(self) -> Path:
        return self.home.resolve() / "run"

    def prepare_home(self) -> None:
        for directory in (self.versions_directory, self.data_directory, self.logs_directory, self.run_directory):
            directory.mkdir(parents=True, exist_ok=True)

    def to_environment(self) -> dict[str, str]:
        """The variables that give a child process these settings."""
        variables = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                variables[PREFIX + name.upper()] = _joined(value) if isinstance(value, tuple) else str(value)
        return variables


def read_settings(environment: Mapping[str, str], **overrides: object) -> Settings:
    """The settings of an environment; `overrides` that are not None (command-line options) win.

    Raises:
        SettingsError: naming every variable that is unknown or cannot be used.
    """
    values: dict[str, object] = {
        name[len(PREFIX) :].lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name != "VITRINE_LIFELINE_FD"
    }
    for name in ("preload", "redacted_features"):
        if name in values:
            values[name] = _names(str(values[name]))
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_in_words(fault) for fault in error.errors(include_url=False))) from None


def _names(text: str) -> list[str]:
    """Names separated by commas; one that holds a comma is in double quotes, as in a CSV file."""
    return [name for line in csv.reader([text], skipinitialspace=True) for name in line if name]


def _joined(names: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def _in_words(fault: ErrorDetails) -> str:
    name = PREFIX + str(fault["loc"][0]).upper()
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        return f"{name}: {message}. Received: {hide_passwords(repr(fault['input']))}"
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    nearest = get_close_matches(name, known, n=1, cutoff=0.8)
    advice = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}"
    return f"{name}: unknown setting; {advice}"
