"""`vitrine train` and `vitrine jobs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from service.cli.connection import (
    FAILED,
    INTERRUPTED,
    JsonOption,
    UrlOption,
    connected,
    errors,
    fail,
    output,
    print_json,
    read_document,
)
from service.job_words import epoch_figures, outcome_in_words, progress_in_words, search_figures

if TYPE_CHECKING:
    from vitrine import Client

JobArgument = Annotated[str, typer.Argument(help="Id of the job.")]
app = typer.Typer(help="List, follow, cancel and resume training jobs.", no_args_is_help=False)


def train(
    spec: Annotated[str, typer.Argument(help="File with a training specification in JSON. - is standard input.")],
    follow: Annotated[bool, typer.Option(help="Show the progress until the job has finished.")] = True,
    idempotency_key: Annotated[
        str | None, typer.Option(help="With the same key and specification it is the same job.", metavar="KEY")
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Train a version. Exit code 0: it succeeded (whether or not it was promoted); 1: it failed or was cancelled."""
    document = read_document(spec)
    _train(document, follow=follow, idempotency_key=idempotency_key, as_json=as_json, url=url)


def retrain(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[
        str, typer.Option("--from", help="The version whose specification is taken: a number or an alias.")
    ] = "champion",
    warm_start: Annotated[bool, typer.Option("--warm-start", help="Begin with the weights of that version.")] = False,
    keys: Annotated[
        str | None, typer.Option("--spec", help="File with keys to merge over it, in JSON.", metavar="FILE")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Show the progress until the job has finished.")] = True,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Train a model again as an earlier version of it was; exit codes as for train."""
    document = read_document(keys) if keys is not None else {}
    document |= {"model": model, "from": version, "warm_start": warm_start}
    _train(document, follow=follow, idempotency_key=None, as_json=as_json, url=url)


def _train(
    document: dict[str, Any], *, follow: bool, idempotency_key: str | None, as_json: bool, url: str | None
) -> None:
    with connected(url) as client:
        job = client.train(document, idempotency_key=idempotency_key)
        show_submitted(client, job, follow=follow, as_json=as_json)


@app.callback(invoke_without_command=True)
def list_jobs(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only those of a model.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List the latest jobs."""
    if context.invoked_subcommand is not None:
        return
    with connected(url) as client:
        found = client.jobs(model=model, limit=limit)
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("job", "model", "status", "created", "how far"):
        table.add_column(name, no_wrap=name == "job")
    for job in found:
        table.add_row(job["job"], job["model"], job["status"], job["created_at"], progress_in_words(job))
    output().print(table if found else "There are no jobs yet.")


@app.command()
def show(job: JobArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Show one job."""
    with connected(url) as client:
        document = client.job(job)
    _print_job(document, as_json=as_json)


@app.command()
def follow(job: JobArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Show the progress of a job until it has finished; exit codes as for train."""
    with connected(url) as client:
        follow_job(client, job, as_json=as_json)


@app.command()
def cancel(job: JobArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Stop a job; it can be resumed."""
    with connected(url) as client:
        document = client.cancel(job)
    _print_job(document, as_json=as_json)


@app.command()
def resume(job: JobArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Have a cancelled or failed job go on from its last checkpoint."""
    with connected(url) as client:
        document = client.resume(job)
    _print_job(document, as_json=as_json)


@app.command()
def logs(
    job: JobArgument,
    tail: Annotated[int | None, typer.Option(help="Only the last lines.", min=1)] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Print what the trainer of a job has logged."""
    with connected(url) as client:
        text = client.logs(job, tail=tail)
    if as_json:
        print_json({"job": job, "lines": text.splitlines()})
    else:
        typer.echo(text, nl=not text.endswith("\n"))


@app.command()
def trials(job: JobArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List what the search of a job has tried."""
    with connected(url) as client:
        found = client.trials(job)
    if as_json:
        print_json(found)
        return
    keys = sorted({key for trial in found for key in trial["parameters"]})
    table = Table(box=None, pad_edge=False)
    for name in ("trial", "state", "value", "epochs", "seconds", *(key.split(".", 1)[1] for key in keys)):
        table.add_column(name)
    for trial in found:
        figures = (trial["value"], trial["epochs"], trial["seconds"])
        drawn = (trial["parameters"].get(key) for key in keys)
        table.add_row(str(trial["trial"]), trial["state"], *(_short(value) for value in (*figures, *drawn)))
    output().print(table if found else "This job has tried nothing: it does not search, or has not begun.")


def _short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_job(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    console = output()
    console.print(f"{document['job']}  {document['model']}  {document['status']}", style="bold", markup=False)
    console.print(f"{progress_in_words(document)}, attempt {document['attempt']}", markup=False)
    for name in ("created", "started", "finished"):
        if moment := document[f"{name}_at"]:
            console.print(f"{name} {moment}", markup=False)


def show_submitted(client: Client, job: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Follows a job that has just been accepted, or says how to."""
    if follow:
        follow_job(client, job["job"], as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        output().print(f"Job {job['job']} is {job['status']}. Watch it: vitrine jobs follow {job['job']}")


def follow_job(client: Client, job: str, *, as_json: bool) -> None:
    """Shows a job until it has finished, on standard error, and its outcome on standard output."""
    try:
        document = _watch(client, job, errors)
    except KeyboardInterrupt:
        errors.print(
            f"\nNo longer watching; job {job} goes on.\n"
            f"  look at it: vitrine jobs follow {job}\n  cancel it:  vitrine jobs cancel {job}"
        )
        raise typer.Exit(INTERRUPTED) from None
    words = outcome_in_words(document)
    succeeded = document["status"] == "succeeded"
    if as_json:
        print_json(document)
    elif succeeded:
        output().print(words, markup=False, soft_wrap=True)
    if not succeeded:
        fail(words, code=FAILED)


def _watch(client: Client, job: str, console: Console) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), TextColumn("{task.fields[state]}"))
    said, document = "", {}
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("queued", total=None, state="")
        for document in client.follow(job):
            figures = epoch_figures(document)
            words = progress_in_words(document)
            if figures is not None:
                progress.update(task, description=document["model"], total=figures["epochs"], state=words)
                progress.update(task, completed=figures["epoch"])
            elif (search := search_figures(document)) is not None:
                progress.update(task, description=document["model"], total=search["trials"], state=words)
                progress.update(task, completed=search["done"])
            else:
                progress.update(task, description=document["model"], state=words)
            line = words if figures is None or figures["epoch"] % 10 == 0 else said
            if not console.is_terminal and line != said:
                said = line
                console.print(f"{document['model']}: {line}", markup=False)
    return document
