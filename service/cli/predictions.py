"""`vitrine predictions`: recorded predictions, shown and explained by the version that made them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from service.cli.connection import JsonOption, UrlOption, connected, output, print_json
from service.cli.online import predicted, print_answer

app = typer.Typer(help="Recorded predictions.", no_args_is_help=True)

PredictionArgument = Annotated[str, typer.Argument(help="Id of the prediction, from its answer.")]


@app.command()
def show(prediction: PredictionArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """What was predicted, from what, and by which version."""
    with connected(url) as client:
        document = client.prediction(prediction)
    if as_json:
        print_json(document)
        return
    console = output()
    console.print(f"{document['model']} {document['version']}, {document['created_at']}", style="bold", markup=False)
    if document["redacted"]:
        console.print(f"redacted: {', '.join(document['redacted'])}", markup=False)
    table = Table("row", "prediction", "inputs", box=None)
    rows = document["inputs"] or ["not kept"] * len(document["predictions"])
    for i, (row, answer) in enumerate(zip(rows, document["predictions"], strict=True)):
        table.add_row(str(i), predicted(answer), _in_short(row))
    console.print(table)


@app.command()
def explain(
    prediction: PredictionArgument,
    row: Annotated[
        list[int] | None, typer.Option(help="Of the request, from 0 (may be repeated).", show_default="all")
    ] = None,
    method: Annotated[str, typer.Option(help="Estimator; /docs of the server lists them.")] = "auto",
    top_k: Annotated[int | None, typer.Option(help="Keep the largest attributions.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Explain a prediction by the version that made it, whatever serves now."""
    asked: dict[str, Any] = {"method": method} | ({} if top_k is None else {"top_k": top_k})
    with connected(url) as client:
        answer = client.explain_prediction(prediction, rows=row, **asked)
    if as_json:
        print_json(answer)
    else:
        print_answer(output(), answer)


def _in_short(row: Any, limit: int = 60) -> str:
    text = ", ".join(f"{name} {value}" for name, value in row.items()) if isinstance(row, dict) else str(row)
    return text if len(text) <= limit else text[: limit - 3] + "..."
