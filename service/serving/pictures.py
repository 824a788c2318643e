"""What a picture of an explanation shows: worded from the answer itself, so that a record is drawn as it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from explain.attribution import Estimate
from explain.caption import Caption
from explain.methods import METHODS
from models.errors import Fault
from models.rows import ModelInput
from models.signature import Signature
from service.errors import InvalidRequest


@dataclass(frozen=True)
class PictureSource:
    """An answer and what it does not say but a picture needs.

    Attributes:
        document: the answer.
        image: `(height, width, channels)`, the first row; None where the model takes columns.
        value_range: of the image's numbers; None where the model takes columns.
        interval_factor: from a standard error to the 95 % half-width.
    """

    document: dict[str, Any]
    image: ModelInput | None
    value_range: tuple[float, float] | None
    interval_factor: float

    @staticmethod
    def of(
        document: dict[str, Any], rows: ModelInput, signature: Signature, estimates: list[Estimate]
    ) -> PictureSource:
        image = signature.image
        return PictureSource(
            document, rows[0] if image else None, image.value_range if image else None, interval_factor(estimates[0])
        )

    def drawing(self) -> tuple[str, dict[str, Any]]:
        """The kind of picture, "heatmap", "waterfall" or "bars", and its arguments in `explain/pictures/draw.py`.

        Saliency of columns adds up to nothing, and gets bars side by side.

        Raises:
            InvalidRequest: when there is more than one row, or more than one target.
        """
        check_one_of_each(self.document)
        ((target,),) = (row["targets"] for row in self.document["explanations"])
        caption = _caption(self.document, target)
        if self.image is not None:
            heatmap = target["heatmap"]
            values = {"image": self.image, "value_range": self.value_range, "caption": caption}
            values["attributions"] = np.array(heatmap["attributions"])
            if "segments" in heatmap:
                values["segments"] = np.array(heatmap["segments"])
            if METHODS[self.document["receipt"]["method"]].needs == "layers":
                values["scale"] = "magnitude"
            return "heatmap", values
        shares = target["attributions"]
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
