"""`vitrine datasets`: list, upload, show, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from service.cli.connection import MISUSED, JsonOption, UrlOption, connected, errors, fail, output, print_json

DatasetArgument = Annotated[str, typer.Argument(help="Id of the data set.")]
TargetOption = Annotated[str | None, typer.Option(help="Report on this column as the target, too.", metavar="COLUMN")]
app = typer.Typer(help="Upload data sets, and see what is in them.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List the uploaded data sets."""
    if context.invoked_subcommand is not None:
        return
    with connected(url) as client:
        found = client.datasets()
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("name", "format", "rows", "columns", "bytes", "uploaded", "id"):
        table.add_column(name, no_wrap=name == "id")
    for one in found:
        rows, columns = one["rows"], one["columns"]
        table.add_row(
            one["name"],
            one["format"] or "",
            f"{rows:,}" if rows is not None else "",
            f"{len(columns):,}" if columns is not None else "",
            f"{one['bytes']:,}",
            one["created_at"],
            one["id"],
        )
    output().print(table if found else "There are no data sets yet. Upload one: vitrine datasets upload FILE")


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet, NPZ, or a ZIP of images in class folders.")],
    target: TargetOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Upload a data set. The same content is the same data set, however often it is sent."""
    if not file.is_file():
        fail(f"{file} is no file.", code=MISUSED)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        connected(url) as client,
        Progress(*columns, console=errors, transient=True) as progress,
        progress.open(file, "rb", description=f"uploading {file.name}") as sent,
    ):
        document = client.upload(sent, name=file.name, target=target)
    _print(document, as_json=as_json)


@app.command()
def show(
    dataset: DatasetArgument, target: TargetOption = None, as_json: JsonOption = False, url: UrlOption = None
) -> None:
    """Show a data set with its report."""
    with connected(url) as client:
        document = client.dataset(dataset, target=target)
    _print(document, as_json=as_json)


@app.command()
def remove(dataset: DatasetArgument, url: UrlOption = None) -> None:
    """Remove a data set that no version and no job needs."""
    with connected(url) as client:
        client.remove_dataset(dataset)
    output().print(f"Removed {dataset}.")


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    console, report = output(), document["report"]
    console.print(f"{document['name']}: {report['rows']:,} rows, {report['format']}", style="bold", markup=False)
    console.print(f"id {document['id']}", markup=False)
    by_target = report.get("by_target", {})
    alone = by_target.get("alone", {"scores": {}})
    table = Table(box=None, pad_edge=False)
    for name in ("column", "kind", "missing", "distinct", "range or values", *(("alone",) if by_target else ())):
        table.add_column(name)
    for column in report["columns"]:
        score = alone["scores"].get(column["name"])
        cells = [
            column["name"],
            column["kind"] or "mixed",
            f"{column['missing']:,}",
            _distinct(column),
            _values(column),
        ]
        table.add_row(*cells, *((f"{score:.3f}" if score is not None else "",) if by_target else ()))
    console.print(table)
    for label, count in by_target.get("labels", {}).items():
        console.print(f"{count:,} rows have the label {label!r}", markup=False)
    for remark in [*report["remarks"], *by_target.get("remarks", ())]:
        console.print(f"- {remark}", markup=False)
    for column in report["columns"]:
        if fault := column.get("fault"):
            console.print(f"- {column['name']}: {fault}; {column['cure']}", markup=False)


def _distinct(column: dict[str, Any]) -> str:
    if column["distinct"] is None:
        return " x ".join("?" if size is None else str(size) for size in column["shape"])
    return f"{'' if column['distinct_is_exact'] else 'over '}{column['distinct']:,}"


def _values(column: dict[str, Any]) -> str:
    if figures := column.get("figures"):
        return f"{figures['min']:g} to {figures['max']:g}"
    return ", ".join(list(column.get("values", {}))[:4])
