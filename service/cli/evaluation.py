"""`vitrine models evaluation` and `vitrine models surrogate`: what a version is worth, in tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from service.cli.connection import MISUSED, JsonOption, UrlOption, connected, fail, output, print_json

ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
VersionArgument = Annotated[str, typer.Argument(help="A number or an alias.")]
MAX_SHOWN_METRICS = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "log_loss", "mae", "rmse", "r2")


def evaluation(
    model: ModelArgument,
    version: VersionArgument = "champion",
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show how a version does on its test part: intervals, baselines, groups, calibration, robustness."""
    with connected(url) as client:
        card = client.card(model, version)
    found = card.get("evaluation", {})
    if as_json:
        print_json(found)
        return
    console = output()
    rows = found.get("rows", 0)
    console.print(f"{card['model']} version {card['version']}, {rows:,} test rows", style="bold", markup=False)
    console.print(_metrics(found))
    for name, slices in found.get("slices", {}).items():
        console.print(f"\nby {name}", style="bold", markup=False)
        console.print(_slices(slices))
    if calibration := found.get("calibration"):
        console.print("\ncalibration", style="bold")
        console.print(_calibration(calibration))
    if (robustness := found.get("robustness", {"noise": None}))["noise"] is not None:
        console.print(f"\n{robustness['metric']} when inputs move, in {robustness['unit']}", style="bold", markup=False)
        console.print(_robustness(robustness))
    print_warnings(console, found)


def surrogate(
    model: ModelArgument,
    version: VersionArgument = "champion",
    png: Annotated[Path | None, typer.Option(help="Write a picture to this file instead.", metavar="FILE")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write a picture to this file instead.", metavar="FILE")] = None,
    width: Annotated[int, typer.Option(help="Of a picture, in pixels.")] = 800,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show a small decision tree that says nearly what a version says."""
    kinds: tuple[tuple[Literal["png", "svg"], Path | None], ...] = (("png", png), ("svg", svg))
    with connected(url) as client:
        pictures = [
            (file, client.surrogate_picture(model, version, kind=kind, width=width))
            for kind, file in kinds
            if file is not None
        ]
        if not pictures:
            if as_json:
                print_json(client.surrogate(model, version))
            else:
                typer.echo(client.surrogate_text(model, version), nl=False)
            return
    for file, picture in pictures:
        try:
            file.write_bytes(picture)
        except OSError as error:
            fail(f"{file} cannot be written: {error.strerror}", code=MISUSED)
    if as_json:
        print_json({"pictures": [{"file": str(file), "bytes": len(picture)} for file, picture in pictures]})
        return
    for file, picture in pictures:
        output().print(f"{file}: {len(picture):,} bytes", markup=False, soft_wrap=True)


def metrics_in_words(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each metric of an evaluation with its interval."""
    intervals = found.get("intervals", {})
    for name, value in found.get("metrics", {}).items():
        yield name, _figure(value) + _interval(intervals.get(name))


def print_warnings(console: Console, found: dict[str, Any]) -> None:
    for warning in found.get("warnings", ()):
        console.print(f"! {warning}", style="yellow", markup=False)


def _metrics(found: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    baselines = {name: each for name, each in found.get("baselines", {}).items() if each["metrics"] is not None}
    table.add_column("metric")
    table.add_column("value, 95 % interval")
    for name in baselines:
        table.add_column(name.replace("_", " "), justify="right")
    for name, words in metrics_in_words(found):
        table.add_row(name, words, *(_figure(each["metrics"][name]) for each in baselines.values()))
    return table


def _slices(slices: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("group")
    table.add_column("rows", justify="right")
    shown = [name for name in MAX_SHOWN_METRICS if name in slices["groups"][0]["metrics"]][:3]
    for name in shown:
        table.add_column(name)
    for group in slices["groups"]:
        figures = [_figure(group["metrics"][name]) + _interval(group["intervals"][name]) for name in shown]
        table.add_row(group["group"], f"{group['rows']:,}", *figures)
    for measure in ("demographic_parity", "equalized_odds"):
        if measure in slices:
            words = _figure(slices[measure]["difference"]) + _interval(slices[measure].get("interval"))
            table.add_row(f"{measure.replace('_', ' ')} of {slices['label']}", "", words)
    return table


def _calibration(calibration: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    applied = calibration["applied"]
    table.add_column("")
    table.add_column("raw" + ("" if applied else " (served)"), justify="right")
    table.add_column(f"temperature {calibration['temperature']:.3g}" + (" (served)" if applied else ""))
    for name, value in calibration["raw"].items():
        table.add_row(name, _figure(value), _figure(calibration["calibrated"][name]))
    table.add_row("if probabilities were right", _figure(calibration["expected_when_calibrated"]["mean"]), "")
    return table


def _robustness(robustness: dict[str, Any]) -> Table:
    metric = robustness["metric"]
    curves = {"noise": robustness["noise"]["curve"]}
    if robustness["attacks"] is not None:
        curves |= {name: robustness["attacks"][name] for name in ("fgsm", "pgd")}
    sizes = sorted({line["size"] for curve in curves.values() for line in curve})
    table = Table(box=None, pad_edge=False)
    table.add_column("size")
    table.add_column("0", justify="right")
    for size in sizes:
        table.add_column(f"{size:g}", justify="right")
    for name, curve in curves.items():
        unmoved = robustness["noise" if name == "noise" else "attacks"]["unmoved"]
        by_size = {line["size"]: _figure(line[metric]) for line in curve}
        table.add_row(name, _figure(unmoved), *(by_size.get(size, "") for size in sizes))
    return table


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "undefined" if value is None else str(value)


def _interval(interval: Any) -> str:
    return "" if interval is None else f" ({interval[0]:.4g} to {interval[1]:.4g})"
