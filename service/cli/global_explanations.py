"""`vitrine explain --global`: asks for a global explanation, shows how far it is, and prints or writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from service.cli.connection import MISUSED, connected, errors, fail, output, print_json

if TYPE_CHECKING:
    from vitrine import Client


@dataclass(frozen=True, slots=True)
class GlobalRequest:
    """What is asked: rows of a file, or where there are none of a data set that the options name."""

    model: str
    version: str
    rows: Sequence[Any] | None
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GlobalFiles:
    """Where the answer is written to, beside the screen.

    Attributes:
        looks: width, theme, plot and feature of a picture.
        target: of a picture; a list of several names none.
    """

    parquet: Path | None
    png: Path | None
    svg: Path | None
    looks: dict[str, Any]
    target: Any

    @property
    def any(self) -> bool:
        return any((self.parquet, self.png, self.svg))

    def check(self) -> None:
        """Ends the command where what is asked for could not be written in the end: explaining takes long."""
        if (self.looks["plot"] == "dependence") != (self.looks["feature"] is not None):
            fail("--plot dependence and --feature NAME need each other.", code=MISUSED)
        for file in (self.parquet, self.png, self.svg):
            if file is not None and not file.absolute().parent.is_dir():
                fail(f"{file} cannot be written: there is no folder {file.parent}", code=MISUSED)


def explain_globally(request: GlobalRequest, files: GlobalFiles, url: str | None, *, as_json: bool) -> None:
    """Asks, waits and answers. Ctrl-C cancels the explanation."""
    files.check()
    with connected(url) as client:
        asked = client.explain_global(
            request.model,
            request.rows,
            version=request.version,
            **request.options,
        )
        document = _followed(client, asked["id"])
        written = [_write(file, content) for file, content in _contents(client, document, files)]
    if files.any:
        if as_json:
            print_json({"id": document["id"], "files": written})
        else:
            for item in written:
                output().print(f"{item['file']}: {item['bytes']:,} bytes", markup=False, soft_wrap=True)
    elif as_json:
        print_json(document)
    else:
        print_global(output(), document)


def _followed(client: Client, explanation: str) -> dict[str, Any]:
    """The finished document; meanwhile a bar, on standard error, where somebody looks."""
    columns = (TextColumn("explaining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    document: dict[str, Any] = {}
    try:
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
            task = progress.add_task("explaining", total=None)
            for document in client.follow_explanation(explanation):
                rows = document.get("progress", {"rows": 0, "total_rows": None})
                progress.update(task, completed=rows["rows"], total=rows["total_rows"])
    except KeyboardInterrupt:
        client.cancel_explanation(explanation)
        raise
    return document


def _contents(client: Client, document: dict[str, Any], files: GlobalFiles) -> list[tuple[Path, bytes]]:
    contents = []
    if files.parquet is not None:
        contents.append((files.parquet, client.explanation_table(document["id"])))
    names = [target["target"] for target in document["targets"]]
    target = files.target if files.target in names else names[0] if len(names) == 1 else None
    kinds: tuple[tuple[Literal["png", "svg"], Path | None], ...] = (("png", files.png), ("svg", files.svg))
    for kind, file in kinds:
        if file is not None:
            contents.append((file, client.explanation_picture(document["id"], kind=kind, target=target, **files.looks)))
    return contents


def _write(file: Path, content: bytes) -> dict[str, Any]:
    try:
        file.write_bytes(content)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}", code=MISUSED)
    return {"file": str(file), "bytes": len(content)}


def print_global(console: Console, document: dict[str, Any]) -> None:
    """How much each feature matters, the most important first; of an image, its most important pixels."""
    receipt = document["receipt"]
    for target in document["targets"]:
        console.print()
        console.print(
            f"{document['model']} {document['version']} over {target['rows']} rows: {target['target']}"
            f" (base value {target['base_value']:.6g})",
            style="bold",
            markup=False,
        )
        console.print(_features(target) if "features" in target else _pixels(target["heatmap"]))
        console.print(
            f"{receipt['method']} ({receipt['estimand']}), {document['evaluations']:,} evaluations",
            style="dim",
            markup=False,
        )


def _features(target: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("feature")
    table.add_column("mean |attribution|", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("mean", justify="right")
    for feature in target["features"]:
        interval = feature["interval"]
        table.add_row(
            Text(feature["feature"]),
            f"{feature['mean_absolute_attribution']:.4g}",
            "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}",
            f"{feature['mean_attribution']:+.4g}",
        )
    return table


def _pixels(heatmap: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("line", justify="right")
    table.add_column("column", justify="right")
    table.add_column("mean |attribution|", justify="right")
    places = [
        (value, y, x)
        for y, line in enumerate(heatmap["mean_absolute_attributions"], start=1)
        for x, value in enumerate(line, start=1)
    ]
    for value, y, x in sorted(places, reverse=True)[:10]:
        table.add_row(str(y), str(x), f"{value:.4g}")
    return table
