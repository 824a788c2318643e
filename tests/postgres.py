"""A real PostgreSQL of the tests' own, from Debian's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic

import psycopg
from ports import free_port


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs, or None where it is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if installed:
        return installed[-1].parent
    found = shutil.which("postgres")
    return Path(found).parent if found else None


@dataclass
class Postgres:
    """A server on a free port of the loopback, with its data in a folder that goes with it."""

    programs: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="vitrine-postgres-")))
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _databases: int = 0

    def __post_init__(self) -> None:
        self.port = free_port()
        if self._user:
            shutil.chown(self.folder, "postgres", "postgres")
        data = str(self.folder / "data")
        initialize = [str(self.programs / "initdb"), "-D", data, "-U", "vitrine", "-A", "trust", "-N"]
        subprocess.run(initialize, user=self._user, check=True, capture_output=True, cwd=self.folder, timeout=120)

    @property
    def _user(self) -> str | None:
        """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
        return pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None

    def start(self) -> None:
        options = [
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
            "-c",
            f"unix_socket_directories={self.folder}",
        ]
        self._process = subprocess.Popen(
            [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *options],
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if monotonic() > deadline or self._process.poll() is not None:
                    raise
                Event().wait(0.05)

    def stop(self) -> None:
        """Ends the server at once; connections are cut."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait(120)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://vitrine@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a fresh database."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)
