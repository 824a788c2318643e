"""What a new user sees: demo models trained through the real queue, a bar per job, and three lines to paste."""

from __future__ import annotations

import json
from threading import Event
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from models.demos import DEMO_SPECS
from service.job_words import figures_in_words
from vitrine import FINISHED

POLL_SECONDS = 0.25
PATIENCE_SECONDS = 120.0
"""How long the API process may take to come back where it ends meanwhile."""
EIGHT = [
    [0, 0, 9, 14, 8, 1, 0, 0],
    [0, 0, 12, 14, 14, 12, 0, 0],
    [0, 0, 9, 10, 0, 15, 4, 0],
    [0, 0, 3, 16, 12, 14, 2, 0],
    [0, 0, 4, 16, 16, 2, 0, 0],
    [0, 3, 16, 8, 10, 13, 2, 0],
    [0, 1, 15, 1, 3, 16, 8, 0],
    [0, 0, 11, 16, 15, 11, 1, 0],
]
"""An eight, in the data set's own units (row 8 of scikit-learn's digits)."""


_UNAVAILABLE = 503


class DemoFailed(Exception):
    """A demo model could not be trained, or the API does not answer."""


def train_demo_models(client: httpx.Client, console: Console) -> None:
    """Trains the demo models that have no champion, going on with jobs that are queued already.

    Raises:
        DemoFailed: when a job does not succeed, or the API does not answer.
    """
    served = {model["name"] for model in _ask(client, "GET", "/models")["models"] if "champion" in model["aliases"]}
    waiting = {
        job["model"]: job["job"]
        for job in _ask(client, "GET", "/train")["jobs"]
        if job["status"] in ("queued", "running")
    }
    jobs = {
        name: waiting.get(name) or _ask(client, "POST", "/train", json=spec)["job"]
        for name, spec in DEMO_SPECS.items()
        if name not in served
    }
    if jobs:
        console.print(f"Training {len(jobs)} demo models on scikit-learn's bundled data:")
        _watch(client, console, jobs)


def _ask(client: httpx.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
    """What is answered, by the next API process where one ends meanwhile. Raises `DemoFailed`."""
    # What was taken in before the answer got lost is not taken in twice.
    headers = {"Idempotency-Key": uuid4().hex} if method == "POST" else {}
    until = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return client.request(method, path, headers=headers, **options).raise_for_status().json()
        except httpx.HTTPError as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code != _UNAVAILABLE
            if refused or monotonic() > until:
                raise DemoFailed(f"{method} {path}: {error}") from error
        Event().wait(POLL_SECONDS)


def _watch(client: httpx.Client, console: Console, jobs: dict[str, str]) -> None:
    """Shows a bar for each job until all have finished."""
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[state]}"),
    )
    said: dict[str, str] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {name: bars.add_task(name, total=None, state="queued") for name in jobs}
        unfinished = dict(jobs)
        while unfinished:
            for name, job in list(unfinished.items()):
                document = _read_job(client, job)
                if document is None:
                    continue
                _show(bars, tasks[name], document)
                if not console.is_terminal and (line := _line(document)) != said.get(name):
                    said[name] = line
                    console.print(f"  {name}: {line}")
                if document["status"] in FINISHED:
                    del unfinished[name]
                    _check(name, document)
            Event().wait(POLL_SECONDS)


def _read_job(client: httpx.Client, job: str) -> dict[str, Any] | None:
    try:
        return client.get(f"/train/{job}").raise_for_status().json()
    except httpx.HTTPError:
        return None  # the API process is being restarted; the job goes on


def _check(name: str, document: dict[str, Any]) -> None:
    if document["status"] != "succeeded":
        error = (document["error"] or {}).get("detail", document["status"])
        raise DemoFailed(f"The demo model {name} could not be trained: {error}")


def _show(bars: Progress, task: TaskID, document: dict[str, Any]) -> None:
    progress = document["progress"]
    if document["status"] == "succeeded":
        bars.update(task, total=1, completed=1, state=f"[green]version {document['version']}")
    elif progress and document["step"] == "fitting":
        bars.update(task, total=progress["epochs"], completed=progress["epoch"], state=figures_in_words(progress))
    else:
        bars.update(task, state=document["step"] or document["status"])


def _line(document: dict[str, Any]) -> str:
    """What is said where no bar can be drawn: each step, and every tenth epoch."""
    if document["status"] in FINISHED:
        return document["status"] if document["version"] is None else f"version {document['version']}"
    progress = document["progress"]
    if progress and document["step"] == "fitting":
        return figures_in_words(progress) if progress["epoch"] % 10 == 0 else "fitting"
    return document["step"] or document["status"]


def print_welcome(client: httpx.Client, console: Console, address: str) -> None:
    """Says where it is and how to use it, with lines that work when pasted. Raises `DemoFailed`."""
    models = {model["name"] for model in _ask(client, "GET", "/models")["models"]}
    console.print(f"\n[bold green]Vitrine is ready at {address}[/]", soft_wrap=True)
    console.print(f"Every call: {address}/docs   Metrics: {address}/metrics\n", soft_wrap=True)
    if not set(DEMO_SPECS) <= models:
        console.print("Train a first model with POST /train, or start with --demo. Ctrl-C stops everything.")
        return
    digit = json.dumps({"model": "digits", "inputs": [EIGHT]}, separators=(",", ":"))
    header = "-H 'Content-Type: application/json'"
    for title, line in (
        ("predict", f"curl -s {address}/predict {header} -d '{digit}'"),
        ("explain", f"curl -s {address}/explain {header} -d '{digit}'"),
        (
            "explain as a picture",
            f"curl -s {address}/explain {header} -H 'Accept: image/png' -o digit.png -d '{digit}'",
        ),
    ):
        console.print(f"[bold]# {title}[/]")
        console.print(line, soft_wrap=True, markup=False)
    console.print("\nCtrl-C stops everything; nothing is lost.")
