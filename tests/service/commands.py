"""`vitrine` as tests run it: within this process, or in one of its own, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from typer.testing import CliRunner

from service.__main__ import cli


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def vitrine(
    *arguments: str, url: str | None = None, text: str | None = None, variables: dict[str, str] | None = None
) -> Done:
    """Runs `vitrine` to its end within this process: one of its own would import for two seconds."""
    given = environment_of(variables)
    hidden = dict.fromkeys(name for name in os.environ if name not in given)
    result = CliRunner().invoke(cli, with_url(arguments, url), input=text, env={**hidden, **given})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def vitrine_alone(
    *arguments: str, url: str | None = None, text: str | None = None, variables: dict[str, str] | None = None
) -> Done:
    """Runs `vitrine` to its end in a process of its own."""
    done = subprocess.run(
        command_of(arguments, url),
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment_of(variables),
    )
    return Done(done.returncode, done.stdout, done.stderr)


def command_of(arguments: Sequence[str], url: str | None) -> list[str]:
    return [sys.executable, "-m", "service", *with_url(arguments, url)]


def with_url(arguments: Sequence[str], url: str | None) -> list[str]:
    return [*arguments, *(["--url", url] if url else [])]


def environment_of(variables: dict[str, str] | None = None) -> dict[str, str]:
    """This one without what it sets for Vitrine, and with the variables."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")}
    return {**plain, "COLUMNS": "120", **(variables or {})}
