"""`vitrine schedules`: training by the clock."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from service.cli.connection import JsonOption, UrlOption, connected, output, print_json, read_document

ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
app = typer.Typer(help="List, set, pause, resume and remove schedules of training.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def list_schedules(context: typer.Context, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List the schedules."""
    if context.invoked_subcommand is not None:
        return
    with connected(url) as client:
        found = client.schedules()
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("model", "cron (UTC)", "status", "next run", "last run"):
        table.add_column(name)
    for schedule in found:
        last = schedule["last_run"] or {}
        words = f"{last['at']}  {last['job'] or last['detail']}" if last else "none yet"
        table.add_row(
            schedule["model"], schedule["cron"], schedule["status"], schedule["next_run_at"] or "when resumed", words
        )
    output().print(table if found else "There are no schedules yet. Set one: vitrine schedules set MODEL CRON")


@app.command("set")
def set_schedule(
    model: ModelArgument,
    cron: Annotated[str, typer.Argument(help="Minute, hour, day of the month, month, day of the week, in UTC.")],
    spec: Annotated[
        str | None,
        typer.Option(help="File with a specification in JSON; default: the champion's, as it is then.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Train a model again by the clock."""
    document = read_document(spec) if spec is not None else None
    with connected(url) as client:
        _print(client.set_schedule(model, cron, document), as_json=as_json)


@app.command()
def show(model: ModelArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Show the schedule of a model."""
    with connected(url) as client:
        _print(client.schedule(model), as_json=as_json)


@app.command()
def pause(model: ModelArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Begin no runs until it is resumed."""
    with connected(url) as client:
        _print(client.pause_schedule(model), as_json=as_json)


@app.command()
def resume(model: ModelArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Begin runs again."""
    with connected(url) as client:
        _print(client.resume_schedule(model), as_json=as_json)


@app.command()
def remove(model: ModelArgument, url: UrlOption = None) -> None:
    """Train a model by the clock no more."""
    with connected(url) as client:
        client.remove_schedule(model)
    output().print(f"{model} has no schedule any more.", markup=False)


def _print(schedule: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(schedule)
        return
    coming = f"next run {schedule['next_run_at']}" if schedule["next_run_at"] else "no run before it is resumed"
    output().print(f"{schedule['model']}: {schedule['cron']} (UTC), {schedule['status']}, {coming}", markup=False)
    if last := schedule["last_run"]:
        output().print(f"last run {last['at']}: {last['job'] or last['detail']}", markup=False)
