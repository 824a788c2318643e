"""What a picture of an explanation shows: worded from the answer itself, so that a record is drawn as it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from explain.attribution import Estimate
from explain.caption import Caption
from explain.methods import METHODS
from models.encoding.reading import Given
from models.errors import Fault
from models.rows import ModelInput
from models.signature import RowKind, Signature
from service.errors import InvalidRequest


@dataclass(frozen=True)
class PictureSource:
    """An answer and what it does not say but a picture needs.

    Attributes:
        document: the answer.
        shown: what the model takes.
        row: `input_shape`, of an image, a series or a text; None where the model takes columns.
        text: as it was given; None where the model takes none.
        value_range: of the image's numbers; None where the model takes no image.
        interval_factor: from a standard error to the 95 % half-width.
    """

    document: dict[str, Any]
    shown: RowKind
    row: ModelInput | None
    text: str | None
    value_range: tuple[float, float] | None
    interval_factor: float

    @staticmethod
    def of(
        document: dict[str, Any], row: ModelInput, given: Given, signature: Signature, estimates: list[Estimate]
    ) -> PictureSource:
        """Of an answer for one row `input_shape`; of others it is not asked for a drawing."""
        image, text = signature.image, signature.text
        return PictureSource(
            document,
            signature.kind,
            None if signature.kind == "columns" else row,
            given.get(text.name) if text else None,
            image.value_range if image else None,
            interval_factor(estimates[0]),
        )

    def drawing(self) -> tuple[str, dict[str, Any]]:
        """The kind of picture, "heatmap", "waterfall", "bars", "tokens" or "series", and its arguments in
        `explain/pictures/draw.py`.

        Saliency of columns adds up to nothing, and gets bars side by side.

        Raises:
            InvalidRequest: when there is more than one row, or more than one target.
        """
        check_one_of_each(self.document)
        ((target,),) = (row["targets"] for row in self.document["explanations"])
        caption = _caption(self.document, target)
        if self.shown == "image":
            heatmap = target["heatmap"]
            values = {"image": self.row, "value_range": self.value_range, "caption": caption}
            values["attributions"] = np.array(heatmap["attributions"])
            if "segments" in heatmap:
                values["segments"] = np.array(heatmap["segments"])
            if METHODS[self.document["receipt"]["method"]].needs == "layers":
                values["scale"] = "magnitude"
            return "heatmap", values
        shares = target["attributions"]
        if self.shown == "text":
            return "tokens", {
                "text": self.text,
                "spans": [tuple(share["span"]) for share in shares],
                "attributions": np.array([share["attribution"] for share in shares]),
                "caption": caption,
            }
        if self.shown == "series":
            assert self.row is not None
            return "series", {**_cells(shares, self.row.shape[1]), "steps": self.row, "caption": caption}
        names, values = [share["feature"] for share in shares], [share["value"] for share in shares]
        attributions = [share["attribution"] for share in shares]
        errors = [share["standard_error"] or 0.0 for share in shares]
        if target["omitted"] != 0.0:
            # Asked for the largest few, it shows the rest as the answer does: as one sum.
            names, values, attributions, errors = (
                [*names, "other features"],
                [*values, None],
                [*attributions, target["omitted"]],
                [*errors, 0.0],
            )
        kind = "bars" if self.document["receipt"]["estimand"] == "saliency" else "waterfall"
        return kind, {
            "names": names,
            "values": values,
            "attributions": np.array(attributions),
            "half_widths": self.interval_factor * np.array(errors),
            "caption": caption,
        }


def _cells(shares: list[dict[str, Any]], n_channels: int) -> dict[str, Any]:
    """The attributions of windows, `(n_windows, n_channels)`; 0 for those that were left out of the answer."""
    windows = sorted({tuple(share["window"]) for share in shares})
    cells = np.zeros((len(windows), n_channels))
    for share in shares:
        cells[windows.index(tuple(share["window"])), share["channel"]] = share["attribution"]
    return {"windows": windows, "channels": [f"channel {i}" for i in range(n_channels)], "attributions": cells}


def interval_factor(estimate: Estimate) -> float:
    """What the estimator multiplied standard errors by to get half-widths; 0 where there is no error."""
    largest = float(estimate.standard_errors.max())
    return float(estimate.half_widths.max()) / largest if largest > 0 else 0.0


def check_one_of_each(document: dict[str, Any]) -> None:
    """Raises `InvalidRequest` where an answer holds more than a picture shows: one row, one target."""
    rows = document["explanations"]
    if len(rows) != 1:
        raise InvalidRequest([Fault("#/inputs", "one row for a picture", f"{len(rows)} rows")])
    if len(rows[0]["targets"]) != 1:
        raise InvalidRequest([Fault("#/target", "one target for a picture", f"{len(rows[0]['targets'])} targets")])


def _caption(document: dict[str, Any], target: dict[str, Any]) -> Caption:
    (row,), receipt = document["explanations"], document["receipt"]
    name, prediction = target["target"], row["prediction"]
    classified = "label" in prediction
    if classified:
        label = prediction["label"]
        predicted = f"{label} ({prediction['probabilities'][label]:.2f})"
    else:
        predicted = f"{name} {prediction['value']:.4g}"
    return Caption(
        title=f"{document['model']} v{document['version']}: {predicted}",
        output=f"{receipt['output']} of {name}" if classified else name,
        method=f"{receipt['method']}, {row['evaluations']:,} evaluation{'' if row['evaluations'] == 1 else 's'}",
        base_value=target["base_value"],
        value=target["value"],
    )
