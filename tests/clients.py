"""The clients that protocols are tested with, in an environment of their own that is made where it is missing."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "client_scripts"


def what_a_client_finds(script: str, *arguments: str) -> dict[str, Any]:
    """What a script of `client_scripts` prints, in an environment that has the clients and nothing of ours."""
    made = environment("clients")
    run = subprocess.run(
        [made / "bin/python", "-I", SCRIPTS / script, *arguments], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def schemathesis(
    url: str, folder: Path, *options: str, ids: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """A run of schemathesis over the OpenAPI document of a server, from a fixed seed; it fails where the server does
    otherwise than the document says.

    Args:
        folder: where it may write.
        ids: of what there is, by the variables of its configuration.
    """
    made = environment("clients")
    configuration = ("--config-file", str(ROOT / "tests/openapi/schemathesis.toml"))
    how = ("--seed", "1", "--no-color", "--continue-on-failure", "--request-timeout", "60", "--workers", "2")
    return subprocess.run(
        [made / "bin/schemathesis", *configuration, "run", f"{url}/openapi.json", *how, *options],
        cwd=folder,
        env={**os.environ, **ids},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def environment(name: str) -> Path:
    """The environment `.venv-<name>`, of a lock of that name; made by the first process that asks for it."""
    made = ROOT / f".venv-{name}"
    with (ROOT / f"requirements/{name}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = subprocess.run(
            ["make", "--silent", f"{made.name}/.installed"], cwd=ROOT, capture_output=True, text=True, timeout=280
        )
    assert run.returncode == 0, run.stderr
    return made
