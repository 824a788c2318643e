"""`vitrine models`: list, show, import, promote, roll back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from service.cli import evaluation
from service.cli.connection import (
    MISUSED,
    JsonOption,
    UrlOption,
    connected,
    fail,
    output,
    print_json,
    read_document,
)
from service.cli.evaluation import metrics_in_words, print_warnings
from service.cli.jobs import show_submitted

ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]
app = typer.Typer(help="List and show models, move their aliases.", no_args_is_help=False)
app.command("evaluation")(evaluation.evaluation)
app.command("surrogate")(evaluation.surrogate)


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List the models."""
    if context.invoked_subcommand is not None:
        return
    with connected(url) as client:
        found = client.models()
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("model", "task", "aliases", "versions", "loaded", "engine"):
        table.add_column(name)
    for model in found:
        aliases = ", ".join(f"{alias} {version}" for alias, version in model["aliases"].items())
        held = ", ".join(map(str, model["versions"]))
        loaded = ", ".join(map(str, model["loaded"]))
        table.add_row(model["name"], model["task"], aliases, held, loaded, engines_in_words(model["engines"]))
    output().print(table if found else "There are no models yet. Train one: vitrine train SPEC")


@app.command()
def show(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="A number or an alias.")] = "champion",
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show the card of a version."""
    with connected(url) as client:
        card = client.card(model, version)
    if as_json:
        print_json(card)
        return
    console = output()
    console.print(f"{card['model']} version {card['version']}, {card['task']}", style="bold", markup=False)
    signature = card["signature"]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("job", card["job"])
    table.add_row("engine", f"{card['engine']['name']}: {card['engine']['reason']}")
    table.add_row("features", ", ".join(feature["name"] for feature in signature["features"]))
    for name, words in metrics_in_words(card.get("evaluation", {})):
        table.add_row(name, words)
    for gate in card.get("gates", ()):
        table.add_row(f"gate {gate['gate']}", _gate(gate))
    for name, digest in card["files"].items():
        table.add_row(name, f"SHA-256 {digest[:16]}…")
    console.print(table)
    print_warnings(console, card.get("evaluation", {}))


def engines_in_words(engines: dict[str, dict[str, str]]) -> str:
    """What predicts: one name where it is the same for all loaded versions, else one for each."""
    names = {version: engine["name"] for version, engine in engines.items()}
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    return ", ".join(f"{version} {name}" for version, name in names.items())


def _gate(gate: dict[str, Any]) -> str:
    words = "passed" if gate["passed"] else "failed"
    return f"{words}: {gate.get('value')}, limit {gate.get('limit')}"


@app.command("import")
def import_file(
    model: ModelArgument,
    file: Annotated[Path, typer.Argument(help="A .keras file, as model.save of Keras 3 writes it.", exists=True)],
    spec: Annotated[
        str | None, typer.Option(help="JSON file with a dataset, or with what is given. - is standard input.")
    ] = None,
    builtin: Annotated[str | None, typer.Option(help="Built-in data set, where that is all there is to say.")] = None,
    follow: Annotated[bool, typer.Option(help="Show the progress until the job has finished.")] = True,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Import a .keras file as a version. Exit code 0: it succeeded; 1: it failed or was cancelled."""
    if (spec is None) == (builtin is None):
        fail("Give either --spec or --builtin.", code=MISUSED)
    document = {"dataset": {"builtin": builtin}} if spec is None else read_document(spec)
    with connected(url) as client:
        show_submitted(client, client.import_version(model, file, document), follow=follow, as_json=as_json)


@app.command()
def promote(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="A number or an alias.")],
    alias: Annotated[str, typer.Option(help="The alias that is to point at it.")] = "champion",
    force: Annotated[bool, typer.Option("--force", help="Even when its gates failed; needs a reason.")] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Point an alias at a version."""
    if force and not reason.strip():
        fail("--force needs a --reason.", code=MISUSED)
    with connected(url) as client:
        move = client.promote(model, version, alias=alias, force=force, reason=reason)
    _print_move(model, move, as_json=as_json)


@app.command()
def rollback(
    model: ModelArgument,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Point champion back at what it was before."""
    with connected(url) as client:
        move = client.rollback(model, reason=reason)
    _print_move(model, move, as_json=as_json)


@app.command()
def traffic(
    model: ModelArgument,
    shares: Annotated[list[str], typer.Argument(help="Parts of a hundred: champion=90 challenger=10.")],
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Split the requests that name no version between aliases; champion=100 ends a split."""
    parts: dict[str, int] = {}
    for share in shares:
        alias, _, part = share.partition("=")
        if not alias or not part.isdecimal():
            fail(f"Expected ALIAS=PART, such as champion=90. Received: {share}", code=MISUSED)
        parts[alias] = int(part)
    with connected(url) as client:
        answer = client.split_traffic(model, parts)
    if as_json:
        print_json(answer)
        return
    split = answer["traffic"] or {"champion": 100}
    output().print(f"{model}: " + ", ".join(f"{alias} {part} %" for alias, part in split.items()), markup=False)


@app.command()
def prune(
    model: Annotated[str | None, typer.Option(help="Of this model alone.")] = None,
    keep: Annotated[
        int | None, typer.Option(help="Latest versions of each model that stay; default: as the server is set.", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Delete old versions that nothing needs, checkpoints of jobs that were given up, and imported files."""
    with connected(url) as client:
        pruned = client.prune(keep_versions=keep, model=model, dry_run=dry_run)
    if as_json:
        print_json(pruned)
        return
    console, would = output(), "would be " if dry_run else ""
    for version in pruned["versions"]:
        console.print(f"{version['model']} {version['version']} {would}deleted: {version['reason']}", markup=False)
    for version in pruned["kept"]:
        console.print(f"{version['model']} {version['version']} kept: {version['reason']}", markup=False)
    for job in pruned["checkpoints"]:
        console.print(f"checkpoints of job {job} {would}deleted", markup=False)
    for sha256 in pruned["imports"]:
        console.print(f"imported file {sha256}.keras {would}deleted")
    if not (pruned["versions"] or pruned["checkpoints"] or pruned["imports"]):
        console.print("Nothing to delete.")


def _print_move(model: str, move: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(move)
    elif move["previous"] == move["version"]:
        output().print(f"{move['alias']} of {model} is version {move['version']} already.")
    else:
        was = "nothing" if move["previous"] is None else f"version {move['previous']}"
        output().print(f"{move['alias']} of {model} is now version {move['version']}; it was {was}.")
