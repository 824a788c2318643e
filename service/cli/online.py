"""`vitrine predict` and `vitrine explain`."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.connection import (
    MISUSED,
    JsonOption,
    UrlOption,
    VersionOption,
    connected,
    fail,
    output,
    print_json,
)
from service.cli.global_explanations import GlobalFiles, GlobalRequest, explain_globally
from service.cli.rows import read_rows

BAR_WIDTH = 24
FOR, AGAINST = "red", "blue"

ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
InputOption = Annotated[
    str,
    typer.Option("--input", "-i", help="File of rows: JSON, JSON lines, or CSV with a header. - is standard input."),
]


class Output(StrEnum):
    PROBABILITY = "probability"
    LOGIT = "logit"
    VALUE = "value"


class Theme(StrEnum):
    LIGHT = "light"
    DARK = "dark"


def predict(
    model: ModelArgument,
    source: InputOption,
    version: VersionOption = "champion",
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Predict the rows of a file."""
    rows = read_rows(source)
    with connected(url) as client:
        answer = client.predict_answer(model, rows, version=version)
    predictions = answer["predictions"]
    if as_json:
        print_json(predictions)
        return
    table = Table(box=None)
    labels = list(predictions[0].get("probabilities", {}))
    table.add_column("row", justify="right")
    table.add_column("label" if labels else "value", justify="left" if labels else "right")
    for label in labels:
        table.add_column(label, justify="right")
    for i, prediction in enumerate(predictions):
        figures = [f"{prediction['probabilities'][label]:.4f}" for label in labels]
        table.add_row(str(i), predicted(prediction), *figures)
    output().print(table)
    output().print(f"{answer['model']} {answer['version']}, id {answer['id']}", style="dim", markup=False)


class Dataset(StrEnum):
    TEST = "test"
    VALIDATION = "validation"
    TRAIN = "train"
    BACKGROUND = "background"


class Plot(StrEnum):
    BAR = "bar"
    BEESWARM = "beeswarm"
    DEPENDENCE = "dependence"


def explain(
    model: ModelArgument,
    source: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", help="File of rows: JSON, JSON lines, or CSV with a header. - is standard input."
        ),
    ] = None,
    version: VersionOption = "champion",
    target: Annotated[
        list[str] | None, typer.Option(help="A label (may be repeated), all, or predicted.", show_default="predicted")
    ] = None,
    output_kind: Annotated[Output | None, typer.Option("--output", help="What is explained.")] = None,
    method: Annotated[str, typer.Option(help="Estimator; /docs of the server lists them.")] = "auto",
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the method (may be repeated).", metavar="NAME=JSON")
    ] = None,
    tolerance: Annotated[float | None, typer.Option(help="Largest 95 % half-width, as a part of the scale.")] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="Soft: later, the errors are larger.")] = None,
    budget: Annotated[int | None, typer.Option(help="Most rows put through the network for one row.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when the tolerance is not reached.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of the random numbers.", show_default="0")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep the largest attributions.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture to this file instead.", metavar="FILE")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write a picture to this file instead.", metavar="FILE")] = None,
    width: Annotated[int, typer.Option(help="Of a picture, in pixels.")] = 800,
    theme: Annotated[Theme, typer.Option(help="Of a picture.")] = Theme.LIGHT,
    is_global: Annotated[
        bool, typer.Option("--global", help="Explain the version over many rows: how much each feature matters.")
    ] = False,
    dataset: Annotated[
        Dataset | None, typer.Option(help="With --global: rows of the version's data.", show_default="test")
    ] = None,
    max_rows: Annotated[int | None, typer.Option(help="With --global: of more rows, so many are drawn.")] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="With --global: write all attributions to this file.", metavar="FILE")
    ] = None,
    plot: Annotated[Plot | None, typer.Option(help="With --global: kind of picture.", show_default="bar")] = None,
    feature: Annotated[str | None, typer.Option(help="With --plot dependence: of which feature.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Explain the predictions of the rows of a file: each feature's share, with its error."""
    if source is None and not is_global:
        fail("Rows are missing. Give them with --input FILE, or explain over a data set with --global.", code=MISUSED)
    if not is_global:
        of_many = {
            "--dataset": dataset,
            "--max-rows": max_rows,
            "--parquet": parquet,
            "--plot": plot,
            "--feature": feature,
        }
        if named := [name for name, value in of_many.items() if value is not None]:
            fail(f"{', '.join(named)} can be used with --global alone.", code=MISUSED)
    rows = read_rows(source) if source is not None else None
    asked: dict[str, Any] = {
        "target": target[0] if target and len(target) == 1 else target,
        "output": output_kind.value if output_kind else None,
        "method": method,
        "options": dict(_parse_option(text) for text in option or ()),
        "tolerance": tolerance,
        "deadline_ms": deadline_ms,
        "budget": budget,
        "strict": strict,
        "seed": seed,
        "top_k": top_k,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if is_global:
        if top_k is not None:
            fail("--top-k is of single rows, and --global of many.", code=MISUSED)
        asked |= {"dataset": dataset.value} if dataset else {}
        asked |= {"max_rows": max_rows} if max_rows is not None else {}
        if (plot or feature is not None) and png is None and svg is None:
            fail("--plot and --feature are of a picture. Name its file with --png or --svg.", code=MISUSED)
        request = GlobalRequest(model, version, rows, asked)
        looks = {"width": width, "theme": theme.value, "plot": (plot or Plot.BAR).value, "feature": feature}
        files = GlobalFiles(parquet, png, svg, looks, asked.get("target"))
        explain_globally(request, files, url, as_json=as_json)
        return
    assert rows is not None
    if png is None and svg is None:
        with connected(url) as client:
            answer = client.explain(model, rows, version=version, **asked)
        if as_json:
            print_json(answer)
        else:
            print_answer(output(), answer)
        return
    if len(rows) != 1:
        fail(f"A picture shows one row, and the input has {len(rows)}.", code=MISUSED)
    written = []
    with connected(url) as client:
        kinds: tuple[tuple[Literal["png", "svg"], Path | None], ...] = (("png", png), ("svg", svg))
        for kind, file in kinds:
            if file is not None:
                picture = client.picture(
                    model, rows[0], kind=kind, width=width, theme=theme.value, version=version, **asked
                )
                _write(file, picture)
                written.append({"file": str(file), "bytes": len(picture)})
    if as_json:
        print_json({"pictures": written})
    else:
        for item in written:
            output().print(f"{item['file']}: {item['bytes']:,} bytes", markup=False, soft_wrap=True)


def _parse_option(text: str) -> tuple[str, Any]:
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        fail(f"--option expects NAME=JSON. Received: {text!r}", code=MISUSED)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value  # a bare word is a string


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}", code=MISUSED)


def predicted(prediction: dict[str, Any]) -> str:
    """A prediction in a word: its label, or its value."""
    if "label" in prediction:
        return prediction["label"]
    if "values" in prediction:
        return ", ".join(f"{name} {value:.6g}" for name, value in prediction["values"].items())
    return f"{prediction['value']:.6g}"


def print_answer(console: Console, answer: dict[str, Any]) -> None:
    """Attributions for people: a table with bars, or a heatmap, for each row and target."""
    receipt = answer["receipt"]
    for i, explanation in enumerate(answer["explanations"]):
        for target in explanation["targets"]:
            console.print()
            console.print(
                f"{answer['model']} {answer['version']}, row {i}: {target['target']} {target['value']:.6g}"
                f" (base value {target['base_value']:.6g})",
                style="bold",
                markup=False,
            )
            console.print(heatmap(target["heatmap"], console) if "heatmap" in target else bars(target))
            console.print(
                f"{receipt['method']} ({receipt['estimand']}), {explanation['evaluations']:,} evaluations, "
                f"stopped: {explanation['stop_reason']}, residual {target['efficiency_residual']:.2g}",
                style="dim",
                markup=False,
            )


def bars(target: dict[str, Any]) -> Table:
    """A table of the attributions of one target, largest first, each with a bar and its 95 % half-width."""
    items = sorted(target["attributions"], key=lambda item: -abs(item["attribution"]))
    largest = max((abs(item["attribution"]) for item in items), default=0.0) or 1.0
    table = Table(box=None, pad_edge=False)
    table.add_column("feature")
    table.add_column("value", justify="right")
    table.add_column("attribution", justify="right")
    table.add_column("± 95 %", justify="right")
    table.add_column("against | for")
    for item in items:
        error = item["standard_error"]
        table.add_row(
            Text(item["feature"]),
            Text(_short(item["value"])),
            f"{item['attribution']:+.4g}",
            "" if error is None else f"{1.96 * error:.2g}",
            bar(item["attribution"] / largest, None if error is None else 1.96 * error / largest),
        )
    if target["omitted"]:
        table.add_row(Text("(omitted)", style="dim"), "", f"{target['omitted']:+.4g}", "", "")
    return table


def bar(share: float, half_width: float | None, *, width: int = BAR_WIDTH) -> Text:
    """A bar from the middle, to the right for a positive share of the largest, with its error as a lighter end."""
    half = width // 2
    length = min(half, round(abs(share) * half))
    error = 0 if half_width is None else min(length, math.floor(half_width * half + 0.5))
    solid, light = "█" * (length - error), "▒" * error
    blank = " " * (half - length)
    if share >= 0:
        return Text.assemble(" " * half, "│", (solid + light, FOR))
    return Text.assemble(blank, (light + solid, AGAINST), "│")


def heatmap(heatmap: dict[str, Any], console: Console) -> Text:
    """Pixels as coloured cells; without colours, as per cent of the largest."""
    lines = heatmap["attributions"]
    largest = max(abs(value) for line in lines for value in line) or 1.0
    text = Text(no_wrap=True)
    for line in lines:
        for value in line:
            share = value / largest
            if console.color_system is None:
                text.append(f"{round(100 * share):+5d}" if round(100 * share) else "    .")
            else:
                text.append("  ", style=f"on {_colour(share)}")
        text.append("\n")
    text.append(f"red speaks for it, blue against; largest {largest:.3g}" if console.color_system else "per cent of ")
    if console.color_system is None:
        text.append(f"{largest:.3g}")
    return text


def _colour(share: float) -> str:
    faded = round(255 * (1 - abs(share)))
    return f"rgb(255,{faded},{faded})" if share >= 0 else f"rgb({faded},{faded},255)"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "missing" if value is None else str(value)
