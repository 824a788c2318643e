"""`vitrine doctor` finds what is wrong, and names the cure."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from commands import vitrine
from support import Server, free_port, install

from models.artifact import Artifact
from models.database import open_database
from service.cli.doctor import Check, check_database, check_grpc, check_home, check_libraries, check_server, examine
from service.settings import Settings


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.check: check for check in checks}


def test_a_healthy_server_passes_every_check(server: Server) -> None:
    done = vitrine("doctor", "--home", str(server.settings.home), "--json", url=str(server.client.base_url))

    document = json.loads(done.stdout)
    statuses = {check["check"]: check["status"] for check in document["checks"]}
    assert done.returncode == 0, done.stdout
    assert document["healthy"] is True
    assert {"python", "home", "disk", "lock", "registry database", "job database", "server", "grpc", "versions"} <= set(
        statuses
    )
    assert statuses["registry database"] == statuses["job database"] == "ok"


def test_a_changed_version_is_found_by_its_hash(tmp_path: Path, diabetes_artifact: Artifact) -> None:
    settings = Settings(home=tmp_path, port=free_port())
    settings.prepare_home()
    for i in range(2):
        install(settings, diabetes_artifact, "m", f"JOB-{i}")
    with (settings.versions_directory / "m" / "JOB-1" / "card.json").open("ab") as file:
        file.write(b" ")

    done = vitrine("doctor", "--home", str(tmp_path))

    assert done.returncode == 1
    assert f"version 2 of m, in {settings.versions_directory}/m/JOB-1" in done.stdout
    assert "card.json has changed" in done.stdout
    assert "cure: restore its folder" in done.stdout
    assert "1 of 2 are intact" in done.stdout


def test_something_else_on_the_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        threading.Thread(target=answer, daemon=True).start()
        (check,) = check_server(url, must_answer=False)

    assert (check.status, "not Vitrine" in check.detail) == ("fail", True)


def test_grpc_is_asked_who_it_is_and_whether_it_is_ready(server: Server) -> None:
    (check,) = check_grpc(str(server.client.base_url), server.settings.grpc_port, must_answer=False)

    assert ("ok", f"127.0.0.1:{server.settings.grpc_port} is ready") == (check.status, check.detail)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b""])
def test_something_else_on_the_port_of_grpc_is_found(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(answer)

        threading.Thread(target=reply, daemon=True).start()
        (check,) = check_grpc("http://127.0.0.1:1", listener.getsockname()[1], must_answer=False)
        listener.shutdown(socket.SHUT_RDWR)

    assert ("fail", "choose another VITRINE_GRPC_PORT, or off") == (check.status, check.cure)
    assert "not Vitrine's gRPC" in check.detail


def test_a_server_of_another_kind_on_the_port_of_grpc_is_found() -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()

    (check,) = check_grpc("http://127.0.0.1:1", port, must_answer=False)
    other.stop(None).wait()

    assert ("fail", "choose another VITRINE_GRPC_PORT, or off") == (check.status, check.cure)


def test_a_port_of_grpc_where_nobody_listens_is_told_by_what_should_be_there(server: Server) -> None:
    http, free, nobody = str(server.client.base_url), free_port(), f"http://127.0.0.1:{free_port()}"

    (beside,) = check_grpc(http, free, must_answer=False)
    (named,) = check_grpc(nobody, free, must_answer=True)
    (neither,) = check_grpc(nobody, free, must_answer=False)
    (off,) = check_grpc(nobody, None, must_answer=True)
    (same,) = check_grpc(nobody, urlsplit(nobody).port, must_answer=False)

    assert ["warn", "fail", "ok", "ok", "fail"] == [each.status for each in (beside, named, neither, off, same)]
    assert "nobody listens" in beside.detail


def test_a_server_that_was_named_must_answer() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    (named,), (unnamed,) = check_server(url, must_answer=True), check_server(url, must_answer=False)

    assert (named.status, unnamed.status) == ("fail", "ok")


def test_a_damaged_a_locked_and_a_sound_database_are_told_apart(tmp_path: Path) -> None:
    damaged, sound = tmp_path / "damaged.sqlite", tmp_path / "sound.sqlite"
    damaged.write_bytes(b"not a database" * 1000)
    open_database(f"sqlite:///{sound}").connect().close()
    holder = sqlite3.connect(sound, isolation_level=None)

    free = by_name(check_database("d", f"sqlite:///{sound}"))["d"]
    holder.execute("BEGIN IMMEDIATE")
    locked = by_name(check_database("d", f"sqlite:///{sound}"))["d"]
    holder.close()
    broken = by_name(check_database("d", f"sqlite:///{damaged}"))["d"]

    assert (free.status, locked.status, broken.status) == ("ok", "fail", "fail")
    assert "WAL" in free.detail
    assert "locked" in locked.detail
    assert "restore a backup" in broken.cure


def test_a_database_s_password_is_never_printed(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://vitrine:hunter2@127.0.0.1:{free_port()}/vitrine"
    settings = Settings(home=tmp_path, port=free_port(), database_url=url)

    checks = list(examine(settings, must_answer=False))

    (check,) = [check for check in checks if check.check == "registry database"]
    assert check.status == "fail"
    assert "vitrine:***@127.0.0.1" in check.detail
    assert [check for check in checks if "hunter2" in repr(check)] == []


def test_a_home_that_is_not_writable_or_full_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    file = tmp_path / "file"
    file.write_text("")

    checks = by_name(check_home(file))

    assert (checks["home"].status, checks["disk"].status) == ("fail", "fail")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["importlib.metadata"], "requires", lambda _name: ["numpy>=99", "nosuchthing"])

    (check,) = check_libraries()

    assert check.status == "fail"
    assert "nosuchthing is missing" in check.detail
    assert ">=99 is needed" in check.detail
