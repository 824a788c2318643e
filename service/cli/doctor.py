"""`vitrine doctor`: examines this installation, its home and its server, and says the cure for what is wrong."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import typer

from service.cli.connection import FAILED, HomeOption, JsonOption, UrlOption, output, print_json, read_settings_or_exit
from service.logs import hide_passwords

if TYPE_CHECKING:
    from service.settings import Settings

DISTRIBUTION = "vitrine"
LOW_DISK_BYTES, NO_DISK_BYTES = 2 * 2**30, 200 * 2**20
LOW_MEMORY_BYTES = 2 * 2**30
ANSWER_SECONDS = 5.0
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """What one look has found.

    Attributes:
        status: "fail" for what keeps Vitrine from working, "warn" for what may.
        cure: what to do about it; empty when it is well.
    """

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def doctor(home: HomeOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Check this installation, its home and its server. Exit code 1: something must be cured."""
    settings = read_settings_or_exit(home=home, url=url)
    checks = []
    for check in examine(settings, must_answer=url is not None):
        checks.append(check)
        if not as_json:
            _print(check)
    failed = [check for check in checks if check.status == "fail"]
    if as_json:
        print_json({"healthy": not failed, "checks": [asdict(check) for check in checks]})
    elif failed:
        output().print(f"\n{len(failed)} of {len(checks)} checks failed.", style="bold red")
    else:
        output().print("\nNothing keeps Vitrine from working.", style="bold green")
    if failed:
        raise typer.Exit(FAILED)


def _print(check: Check) -> None:
    console = output()
    style = _STYLES[check.status]
    console.print(f"[{style}]{check.status:<4}[/] [bold]{check.check}[/]: ", end="")
    console.print(check.detail, markup=False, soft_wrap=True)
    if check.cure:
        console.print(f"     cure: {check.cure}", markup=False, soft_wrap=True)


def examine(settings: Settings, *, must_answer: bool) -> Iterator[Check]:
    """Every check, one after the other, each as soon as it is done.

    Args:
        must_answer: whether a server that does not answer is a failure, because its address was given.
    """
    looks: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("python", check_python),
        ("libraries", check_libraries),
        ("gpu", check_gpu),
        ("memory", check_memory),
        ("home", lambda: check_home(settings.home.resolve())),
        ("lock", lambda: check_lock(settings.run_directory / "lock")),
        ("registry database", lambda: check_database("registry database", settings.registry_url)),
        ("job database", lambda: check_database("job database", settings.jobs_url)),
        ("server", lambda: check_server(settings.server_url, must_answer=must_answer)),
        ("grpc", lambda: check_grpc(settings.server_url, settings.grpc_port, must_answer=must_answer)),
        ("versions", lambda: check_versions(settings.registry_url)),
    )
    for name, look in looks:
        try:
            yield from look()
        except Exception as error:
            # One thing that cannot even be looked at must not hide the others.
            detail = f"could not be checked: {type(error).__name__}: {hide_passwords(str(error)).splitlines()[0]}"
            yield Check(name, "fail", detail, "see the runbook, docs/runbook.md")


def check_python() -> Iterator[Check]:
    version = platform.python_version()
    if sys.version_info[:2] == (3, 11):
        yield Check("python", "ok", f"{version}, {sys.executable}")
    else:
        yield Check("python", "fail", f"{version} is not supported", "use Python 3.11: make install PYTHON=python3.11")


def check_libraries() -> Iterator[Check]:
    """Every library that is needed is there, in a version that is allowed."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        yield Check("libraries", "warn", "Vitrine itself is not installed in this environment", "run make install")
        return
    wrong, count = [], 0
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, and {requirement.specifier} is needed")
    if wrong:
        yield Check("libraries", "fail", "; ".join(wrong), "run make install")
    else:
        yield Check("libraries", "ok", f"all {count} are there; TensorFlow {metadata.version('tensorflow')}")


def check_gpu() -> Iterator[Check]:
    command = shutil.which("nvidia-smi")
    if command is None:
        yield Check("gpu", "ok", "none is seen; everything runs on the processor")
        return
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        cure = "look at what nvidia-smi says: driver and device must fit"
        yield Check("gpu", "warn", f"nvidia-smi does not answer: {error}", cure)
        return
    found = "; ".join(answer.stdout.split("\n")).strip("; ")
    if any(distribution.name.startswith("nvidia-cudnn") for distribution in metadata.distributions()):
        yield Check("gpu", "ok", found)
    else:
        yield Check(
            "gpu", "warn", f"{found}, but TensorFlow's CUDA libraries are missing", "install the extra gpu: '.[gpu]'"
        )


def check_memory() -> Iterator[Check]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    detail = f"{_gib(available)} available"
    if available < LOW_MEMORY_BYTES:
        cure = "the compute process and each trainer take about 1 GiB: lower VITRINE_TRAINERS, or end something else"
        yield Check("memory", "warn", detail, cure)
    else:
        yield Check("memory", "ok", detail)


def check_home(home: Path) -> Iterator[Check]:
    if not home.exists():
        folder = next(parent for parent in home.parents if parent.exists())
        if os.access(folder, os.W_OK):
            yield Check("home", "ok", f"{home} is not there yet; the first start makes it")
        else:
            yield Check("home", "fail", f"{home} cannot be made", f"let this user write to {folder}, or choose --home")
        yield from _check_disk(folder)
        return
    try:
        with tempfile.TemporaryFile(dir=home):
            yield Check("home", "ok", f"{home} can be written to")
    except OSError as error:
        cure = "make room, or let this user write to it, or choose another --home"
        yield Check("home", "fail", f"{home} cannot be written to: {error.strerror}", cure)
    yield from _check_disk(home)


def _check_disk(folder: Path) -> Iterator[Check]:
    free = shutil.disk_usage(folder).free
    if free < LOW_DISK_BYTES:
        status = "fail" if free < NO_DISK_BYTES else "warn"
        yield Check("disk", status, f"{_gib(free)} free at {folder}", "make room: docs/runbook.md#disk-full")
    else:
        yield Check("disk", "ok", f"{_gib(free)} free")


def check_lock(lock: Path) -> Iterator[Check]:
    if not lock.exists():
        yield Check("lock", "ok", "nobody has held this home yet")
        return
    with lock.open() as file:
        try:
            # Shared, and let go at once: two doctors do not disturb each other.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield Check("lock", "ok", f"`vitrine up`, process {file.read().strip()}, holds this home")
        else:
            yield Check("lock", "ok", "no `vitrine up` holds this home")


def check_database(name: str, url: str) -> Iterator[Check]:
    if url.startswith("sqlite:///"):
        yield from _check_sqlite(name, Path(url.removeprefix("sqlite:///")))
        return
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    from models.database import open_database

    shown = hide_passwords(url)
    try:
        address = sa.make_url(url).update_query_dict({"connect_timeout": str(int(ANSWER_SECONDS))})
        engine = open_database(address.render_as_string(hide_password=False))
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        reason = hide_passwords(str(getattr(error, "orig", None) or error)).strip().splitlines()[0]
        cure = "is the database up, and the URL right? docs/runbook.md#database-away"
        yield Check(name, "fail", f"{shown} does not answer: {reason}", cure)
    else:
        yield Check(name, "ok", f"{shown} answers")


def _check_sqlite(name: str, file: Path) -> Iterator[Check]:
    if not file.exists():
        yield Check(name, "ok", f"{file} is not there yet; the first start makes it")
        return
    connection = sqlite3.connect(file, timeout=1.0, isolation_level=None)
    try:
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            cure = "stop everything and restore a backup: docs/runbook.md#back-up"
            yield Check(name, "fail", f"{file} is damaged: {fault}", cure)
            return
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        cure = "end whoever holds it open: docs/runbook.md#database-away"
        yield Check(name, "fail", f"{file}: {error}", cure)
        return
    except sqlite3.DatabaseError as error:
        cure = "stop everything and restore a backup: docs/runbook.md#back-up"
        yield Check(name, "fail", f"{file} is damaged: {error}", cure)
        return
    finally:
        connection.close()
    if mode == "wal":
        yield Check(name, "ok", f"{file}, intact, WAL")
    else:
        cure = "start it once with `vitrine up`, on a local disk: WAL does not work on network file systems"
        yield Check(name, "warn", f"{file} is in mode {mode}, where readers wait for writers", cure)


def check_server(url: str, *, must_answer: bool) -> Iterator[Check]:
    """Who answers at the address, and whether it is ready."""
    from vitrine import Client, ServerUnreachable, VitrineError

    try:
        with Client(url, timeout_seconds=ANSWER_SECONDS) as client:
            document = client.ready()
        status, problems = document["status"], document["problems"]
    except ServerUnreachable as error:
        if _is_free(url) and not must_answer:
            yield Check("server", "ok", f"none runs at {url}, and the port is free")
        else:
            status = "fail" if must_answer else "warn"
            yield Check("server", status, str(error), "docs/runbook.md#vitrinedown")
        return
    except (VitrineError, KeyError, TypeError):
        yield Check("server", "fail", f"something that is not Vitrine answers at {url}", "choose another --port")
        return
    served = ", ".join(f"{name} {model['champion']}" for name, model in document["models"].items()) or "no model yet"
    if status == "ready":
        yield Check("server", "ok", f"{url} is ready: {served}")
    else:
        detail = f"{url} is {status}: {'; '.join(problems) or 'it will pass'}"
        yield Check("server", "warn", detail, "docs/runbook.md#vitrinenotready")


def check_grpc(url: str, port: int | None, *, must_answer: bool) -> Iterator[Check]:
    """Who answers on the port of gRPC, on the host of the server's address, and whether it is ready."""
    if port is None:
        yield Check("grpc", "ok", "off: VITRINE_GRPC_PORT names no port")
        return
    if port == 0:
        yield Check("grpc", "ok", "any port that is free: the server's log says which it took")
        return
    host, http_port = urlsplit(url).hostname or "", urlsplit(url).port
    address = f"{f'[{host}]' if ':' in host else host}:{port}"
    if port == http_port:
        yield Check("grpc", "fail", f"{address} is the port of HTTP, too", "choose another VITRINE_GRPC_PORT, or off")
        return
    if _is_free(f"http://{address}"):
        if _is_free(url) and not must_answer:
            yield Check("grpc", "ok", f"none runs at {address}, and the port is free")
        else:
            cure = "start the server with this VITRINE_GRPC_PORT; its log says on which port gRPC is"
            yield Check("grpc", "fail" if must_answer else "warn", f"nobody listens at {address}", cure)
        return
    yield _asked_over_grpc(address)


def _asked_over_grpc(address: str) -> Check:
    import grpc
    from google.protobuf.message import DecodeError

    from service.rpc.messages import SERVICE, message_class

    try:
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:

            def ask(method: str) -> Any:
                answer: bytes = channel.unary_unary(f"/{SERVICE}/{method}")(b"", timeout=ANSWER_SECONDS)
                return message_class(f"{method}Response").FromString(answer)

            is_ours, is_ready = ask("ServerMetadata").name == DISTRIBUTION, ask("ServerReady").ready
    except grpc.RpcError as refused:
        error: Any = refused
        if "x-request-id" in dict(error.trailing_metadata() or ()):
            return Check("grpc", "warn", f"{address}: {error.details()}", "docs/runbook.md#vitrinenotready")
        is_ours = is_ready = False
    except DecodeError:
        is_ours = is_ready = False
    if not is_ours:
        cure = "choose another VITRINE_GRPC_PORT, or off"
        return Check("grpc", "fail", f"something that is not Vitrine's gRPC listens at {address}", cure)
    if not is_ready:
        return Check("grpc", "warn", f"{address} is not ready", "docs/runbook.md#vitrinenotready")
    return Check("grpc", "ok", f"{address} is ready")


def _is_free(url: str) -> bool:
    """Whether nobody listens there: a refused connection, not one that hangs or breaks."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=ANSWER_SECONDS):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def check_versions(registry_url: str) -> Iterator[Check]:
    """Every registered version has the files, and the bytes, that it was registered with."""
    from models.artifact import open_artifact
    from models.database import open_database
    from models.errors import CorruptVersion
    from models.registry import Registry

    if registry_url.startswith("sqlite:///") and not Path(registry_url.removeprefix("sqlite:///")).exists():
        yield Check("versions", "ok", "none yet")
        return
    engine = open_database(registry_url)
    records = [version for model in Registry(engine).models().values() for version in model.versions]
    engine.dispose()
    intact = 0
    for record in records:
        try:
            open_artifact(Path(record.directory))
        except (CorruptVersion, OSError) as error:
            cure = "restore its folder, or promote another version: docs/runbook.md#vitrineversionrefused"
            yield Check(
                "versions", "fail", f"version {record.version} of {record.model}, in {record.directory}: {error}", cure
            )
        else:
            intact += 1
    yield Check("versions", "ok", f"{intact} of {len(records)} are intact")


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
