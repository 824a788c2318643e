"""The servers that are measured: how each is started, and how it is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from benchmarks.latency import free_port
from benchmarks.serving.forms import V2, FixedAnswer, Form, InputsAlone, Native, Plain, Request
from benchmarks.serving.rpc import Call, V2Rpc
from benchmarks.serving.subjects import Subject
from models.database import create_tables, open_database
from models.registry import CHAMPION, Registry
from service.routes.v2.matching import MATRIX
from service.settings import Settings

REPOSITORY = Path(__file__).parents[2]
MANY_ROWS = 32
"""Rows of a request with many."""

PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = REPOSITORY / ".venv-peers"
OURS = "Vitrine"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be started.

    Attributes:
        url: where it answers HTTP; empty where it does not.
        forms: how it is asked, by the kind of body: json, binary, grpc.
        documented: which of its documented ways this is.
        predicts: whether its answers depend on what it is asked, and are to be right.
    """

    name: str
    command: tuple[str, ...]
    url: str
    forms: Mapping[str, Form | V2Rpc]
    version: str
    documented: str
    environment: Mapping[str, str] = field(default_factory=dict)
    predicts: bool = True


def register_versions(
    settings: Settings, subjects: Mapping[str, Subject], *, copies: int = 1, models: Mapping[str, str] | None = None
) -> None:
    """Puts versions into the registry of a home, the first of each model as champion.

    Args:
        copies: versions of each model, all with the same files; each is loaded as one of its own.
        models: the names of the models, and the subject that each serves; by default each subject under its name.
    """
    settings.prepare_home()
    engine = open_database(settings.registry_url)
    create_tables(engine)
    registry = Registry(engine)
    served = {name: name for name in subjects} if models is None else models
    for name, subject in served.items():
        version = subjects[subject].version
        for copy in range(copies):
            registry.register(
                model=name,
                job=f"bench-{name}-{copy}",
                directory=str(version.directory),
                task=version.signature.task,
                gates=[],
            )
        registry.move_alias(name, CHAMPION, "1", by="benchmark", reason="benchmark")
    engine.dispose()


def vitrine(subjects: Mapping[str, Subject], folder: Path, *, copies: int = 1, grpc: bool = False) -> Server:
    """Ours, as `vitrine up` starts it: metrics, ids and limits on, with its compute process."""
    settings = Settings(home=folder / "vitrine", port=free_port(), grpc_port=free_port() if grpc else None)
    register_versions(settings, subjects, copies=copies)
    forms: dict[str, Form | V2Rpc] = {"json": Native("/predict"), "binary": _our_v2(subjects)}
    if grpc:
        forms["grpc"] = V2Rpc(f"127.0.0.1:{settings.grpc_port}", _our_v2(subjects))
    return Server(
        name=OURS,
        command=(sys.executable, "-m", "service", "serve"),
        url=f"http://127.0.0.1:{settings.port}",
        forms=forms,
        version=_version(sys.executable, "vitrine"),
        documented="`vitrine serve`, `POST /predict`; binary, gRPC: the V2 protocol",
        environment=settings.to_environment(),
    )


def vitrine_with_grpc(subjects: Mapping[str, Subject], folder: Path) -> Server:
    """Ours, as the images start it: with gRPC beside HTTP."""
    return vitrine(subjects, folder, grpc=True)


def starlette(subjects: Mapping[str, Subject], folder: Path) -> Server:
    del folder
    return _script(
        "Starlette, bare", "starlette_bare.py", subjects, sys.executable, "starlette", "orjson, and nothing around it"
    )


def floor(subjects: Mapping[str, Subject], folder: Path) -> Server:
    """What a server that has nothing to do still costs."""
    answers, port = folder / "floor", free_port()
    answers.mkdir()
    for name, subject in subjects.items():
        for n_rows in (1, MANY_ROWS):
            content = orjson.dumps({"predictions": subject.outputs[:n_rows]}, option=orjson.OPT_SERIALIZE_NUMPY)
            (answers / f"{name}-{n_rows}").write_bytes(content)
    return Server(
        name="Starlette, fixed answer",
        command=(sys.executable, "-m", "benchmarks.floor", str(answers), str(port)),
        url=f"http://127.0.0.1:{port}",
        forms={"json": FixedAnswer()},
        version=_version(sys.executable, "starlette"),
        documented="reads the body, answers fixed bytes",
        predicts=False,
    )


def fastapi(subjects: Mapping[str, Subject], folder: Path) -> Server:
    del folder
    return _script(
        "FastAPI, bare", "fastapi_bare.py", subjects, sys.executable, "fastapi", "an endpoint with a pydantic model"
    )


def grpc_bare(subjects: Mapping[str, Subject], folder: Path) -> Server:
    del folder
    port = free_port()
    environment = _peer_environment(subjects)
    return Server(
        name="gRPC, bare",
        command=(sys.executable, str(PEERS / "grpc_bare.py"), str(port)),
        url="",
        forms={"grpc": V2Rpc(f"127.0.0.1:{port}", _v2(subjects, binary=True))},
        version=_version(sys.executable, "grpcio"),
        documented="a handler of grpc.aio, and nothing around it",
        # The messages of the protocol are ours.
        environment={**environment, "PYTHONPATH": f"{environment['PYTHONPATH']}:{REPOSITORY}"},
    )


def mlserver(subjects: Mapping[str, Subject], folder: Path) -> Server:
    repository = folder / "mlserver"
    for name, subject in subjects.items():
        model = {
            "name": name,
            "implementation": "mlserver_runtime.OnnxRuntime",
            "parameters": {"uri": str(subject.onnx)},
        }
        (repository / name).mkdir(parents=True)
        (repository / name / "model-settings.json").write_text(json.dumps(model))
    http, grpc, metrics = (str(free_port()) for _ in range(3))
    return Server(
        name="MLServer",
        command=(str(_program("mlserver", "mlserver")), "start", str(repository)),
        url=f"http://127.0.0.1:{http}",
        # 1.7 has binary tensors over gRPC alone
        forms={
            "json": _v2(subjects, binary=False),
            "grpc": V2Rpc(f"127.0.0.1:{grpc}", _v2(subjects, binary=True)),
        },
        version=_version(_program("mlserver", "python"), "mlserver"),
        documented="a custom runtime in one parallel worker, the default; V2 protocol",
        environment={
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": http,
            "MLSERVER_GRPC_PORT": grpc,
            "MLSERVER_METRICS_PORT": metrics,
            "MLSERVER_METRICS_DIR": str(folder / "mlserver-metrics"),
            "MLSERVER_DEBUG": "false",
            **_peer_environment(subjects),
        },
    )


def bentoml(subjects: Mapping[str, Subject], folder: Path) -> Server:
    port = str(free_port())
    command = ("serve", "bentoml_service:Served", "--working-dir", str(PEERS), "--host", "127.0.0.1", "--port", port)
    return Server(
        name="BentoML",
        command=(str(_program("bentoml", "bentoml")), *command),
        url=f"http://127.0.0.1:{port}",
        forms={"json": InputsAlone("/{model}")},
        version=_version(_program("bentoml", "python"), "bentoml"),
        documented="a service with one worker, adaptive batching",
        environment={
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(folder / "bentoml"),
            **_peer_environment(subjects),
        },
    )


def litserve(subjects: Mapping[str, Subject], folder: Path) -> Server:
    del folder
    return _script(
        "LitServe", "litserve_api.py", subjects, _program("litserve", "python"), "litserve", "a worker for each model"
    )


def ray(subjects: Mapping[str, Subject], folder: Path) -> Server:
    program = _program("ray", "python")
    server = _script("Ray Serve", "ray_deployment.py", subjects, program, "ray", "one replica of each model")
    return Server(
        name=server.name,
        # Its sockets lie below this folder, and a socket's path may have 107 bytes.
        command=(*server.command, str(folder / "ray")),
        url=server.url,
        forms={"json": InputsAlone("/{model}")},
        version=server.version,
        documented=server.documented,
        environment={**server.environment, "RAY_USAGE_STATS_ENABLED": "0"},
    )


def kserve(subjects: Mapping[str, Subject], folder: Path) -> Server:
    del folder
    program = _program("kserve", "python")
    server = _script("KServe", "kserve_model.py", subjects, program, "kserve", "custom models, one worker; V2 protocol")
    port, binary = str(free_port()), _v2(subjects, binary=True)
    forms = {"json": _v2(subjects, binary=False), "binary": binary, "grpc": V2Rpc(f"127.0.0.1:{port}", binary)}
    return replace(server, command=(*server.command, port), forms=forms)


Maker = Callable[[Mapping[str, Subject], Path], Server]
TOGETHER: dict[str, Maker] = {
    "floor": floor, "starlette": starlette, "fastapi": fastapi, "grpc": grpc_bare, "vitrine": vitrine_with_grpc,
}  # fmt: skip
"""Started together, and loaded in turn: idle, they take no time from each other."""
ALONE: dict[str, Maker] = {
    "mlserver": mlserver, "bentoml": bentoml, "litserve": litserve, "ray": ray, "kserve": kserve,
}  # fmt: skip
"""Each started while no other runs: some do work while they are idle."""


def first_requests(server: Server, subjects: Mapping[str, Subject]) -> list[Request | Call]:
    """What a server has to answer to count as started: a row of every model, in the first form that it has."""
    form = next(iter(server.forms.values()))
    return [form.ask(subject, subject.rows[:1]) for subject in subjects.values()]


def _script(
    name: str, script: str, subjects: Mapping[str, Subject], python: str | Path, package: str, documented: str
) -> Server:
    port = free_port()
    return Server(
        name=name,
        command=(str(python), str(PEERS / script), str(port)),
        url=f"http://127.0.0.1:{port}",
        forms={"json": Plain("/predict" if script.endswith("_bare.py") else "/{model}")},
        version=_version(python, package),
        documented=documented,
        environment=_peer_environment(subjects),
    )


def _v2(subjects: Mapping[str, Subject], *, binary: bool) -> V2:
    return V2(
        inputs=dict.fromkeys(subjects, ("rows",)),
        row_shapes={name: subject.rows.shape[1:] for name, subject in subjects.items()},
        binary=binary,
    )


def _our_v2(subjects: Mapping[str, Subject]) -> V2:
    """Binary tensors under the names that our metadata give."""
    signatures = {name: subject.version.signature for name, subject in subjects.items()}
    return V2(
        inputs={name: (MATRIX if s.kind == "columns" else s.feature_names[0],) for name, s in signatures.items()},
        row_shapes={name: signature.input_shape for name, signature in signatures.items()},
        binary=True,
    )


def _peer_environment(subjects: Mapping[str, Subject]) -> dict[str, str]:
    return {
        "PYTHONPATH": str(PEERS),
        "SERVED_NETWORKS": json.dumps({name: str(subject.onnx) for name, subject in subjects.items()}),
    }


def _program(peer: str, name: str) -> Path:
    program = ENVIRONMENTS / peer / "bin" / name
    if not program.exists():
        raise FileNotFoundError(f"{program} is missing; `make peers` installs it.")
    return program


def _version(python: str | Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
