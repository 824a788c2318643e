"""What every command that talks to a server shares: its options, its ways to fail, its two ways to answer.

Exit codes: 0 done; 1 refused or failed, and why is on standard error; 2 the command line, a file or a setting cannot be
used; 3 the server cannot be reached; 130 ended by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from service.settings import Settings
    from vitrine import Client, VitrineError

FAILED, MISUSED, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
MAX_SHOWN_ERRORS = 20

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The server.", show_default="VITRINE_URL, or VITRINE_HOST and _PORT", metavar="URL"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON alone, for scripts.")]
HomeOption = Annotated[Path | None, typer.Option(help="Folder that holds everything.", show_default="./var")]
VersionOption = Annotated[str, typer.Option("--version", "-v", help="A number or an alias.", metavar="V")]

errors = Console(stderr=True, highlight=False)


def output() -> Console:
    """Where answers for people go."""
    return Console(highlight=False)


@contextmanager
def connected(url: str | None, *, timeout_seconds: float = 60.0) -> Iterator[Client]:
    """A client of the server. What goes wrong with it is said on standard error, and ends the command."""
    from vitrine import Client, ServerUnreachable, VitrineError

    address = url if url is not None else read_settings_or_exit().server_url
    try:
        with Client(address, timeout_seconds=timeout_seconds) as client:
            yield client
    except ServerUnreachable as error:
        fail(str(error), code=UNREACHABLE)
    except VitrineError as error:
        say_refused(error)
        raise typer.Exit(FAILED) from None


def read_settings_or_exit(**options: object) -> Settings:
    """The settings of this environment and these options; when they cannot be used, every fault and exit 2."""
    from service.settings import SettingsError, read_settings

    try:
        return read_settings(os.environ, **options)
    except SettingsError as error:
        fail(f"these settings cannot be used:\n{error}", code=MISUSED)


def fail(message: str, *, code: int) -> NoReturn:
    """Says on standard error what is wrong, and ends the command."""
    errors.print(f"[bold red]vitrine:[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(code) from None


def say_refused(error: VitrineError) -> None:
    """A problem document in words."""
    title = f"{error.title}: " if error.title else ""
    errors.print(f"[bold red]vitrine:[/] {escape(title + error.detail)}", soft_wrap=True)
    for fault in error.errors[:MAX_SHOWN_ERRORS]:
        place = fault.get("pointer", "#")
        words = f"  {place}: expected {fault.get('expected')}, received {fault.get('received')}"
        errors.print(escape(words), soft_wrap=True)
        if detail := fault.get("detail"):
            errors.print(f"    {escape(detail)}", soft_wrap=True)
    hidden = error.problem.get("error_count", len(error.errors)) - len(error.errors[:MAX_SHOWN_ERRORS])
    if hidden > 0:
        errors.print(f"  and {hidden} more")
    if error.status >= 500 and error.request_id:
        errors.print(f"  request id: {error.request_id}")


def print_json(document: Any) -> None:
    """A document on standard output, in a form that another program reads."""
    import orjson

    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def read_text(source: str) -> str:
    """The text of a file, or of standard input for `-`; when it cannot be read, why and exit 2."""
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{source} cannot be read: {error.strerror}", code=MISUSED)
    except UnicodeDecodeError:
        fail(f"{source} is not text in UTF-8.", code=MISUSED)


def read_document(file: str) -> dict[str, Any]:
    """The specification in a file of JSON; ends the program where there is none."""
    text = read_text(file)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        fail(f"{file} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}", code=MISUSED)
    if not isinstance(document, dict):
        fail(f"{file} holds no specification. Expected a JSON object.", code=MISUSED)
    return document
