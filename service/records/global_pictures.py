"""What a picture of a global explanation shows: worded from the answer and the attributions that it was made from."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import orjson

from explain.caption import Caption, GlobalCaption, PictureKind, short
from models.encoding.reading import named_value
from models.errors import Fault
from models.rows import describe
from models.signature import Feature, Signature
from service.errors import InputsNotKept, InputsRedacted, InvalidRequest
from service.records.jobs import ExplanationJob
from service.serving.global_wording import Attributed

Plot = Literal["bar", "beeswarm", "dependence"]
DAYS_A_YEAR = 365.2425


def global_drawing(
    job: ExplanationJob,
    signature: Signature,
    attributed: Attributed,
    plot: Plot,
    target: str | None,
    feature: str | None,
) -> tuple[PictureKind, dict[str, Any]]:
    """The kind of picture and its arguments in `explain/pictures/draw.py`.

    Raises:
        InvalidRequest: when the target or the feature does not exist, or must be named, or the plot does not fit.
        InputsNotKept, InputsRedacted: when it shows values that were not kept.
    """
    assert job.document is not None
    document = orjson.loads(job.document)
    found = _target(document, target)
    if feature is not None and plot != "dependence":
        raise InvalidRequest([Fault("query parameter feature", f"nothing with plot={plot}", describe(feature))])
    if signature.image is not None:
        return _drawing_of_images(job, document, found, signature, attributed, plot)
    caption = _caption(document, found)
    if plot == "bar":
        features = found["windows" if signature.series else "features"]
        return "importance", {
            "names": [_name(each) for each in features],
            "means": np.array([each["mean_absolute_attribution"] for each in features]),
            "intervals": np.array([each["interval"] or (np.nan, np.nan) for each in features]),
            "caption": caption,
        }
    if signature.series:
        raise InvalidRequest([Fault("query parameter plot", "bar: windows have no one value", describe(plot))])
    lines = _lines(attributed, signature, found)
    if attributed.rows is None:
        raise _not_kept(job, document, "drawn in this way")
    rows, attributions = attributed.rows[attributed.row_of[lines]], attributed.attributions[lines]
    if plot == "beeswarm":
        values = [
            _values(feature, rows[:, place])
            for feature, place in zip(signature.features, signature.places, strict=True)
        ]
        names = list(signature.feature_names)
        return "beeswarm", {"names": names, "values": values, "attributions": attributions, "caption": caption}
    column = _column(signature, feature)
    shown = signature.features[column]
    return "dependence", {
        "name": f"{shown.name} (year)" if shown.kind == "date" else shown.name,
        "values": _values(shown, rows[:, signature.places[column]]),
        "attributions": attributions[:, column],
        "caption": caption,
    }


def _not_kept(job: ExplanationJob, document: dict[str, Any], purpose: str) -> Exception:
    if redacted := document.get("redacted"):
        return InputsRedacted(f"Explanation {job.id!r}", purpose, redacted)
    return InputsNotKept(f"Explanation {job.id!r}", purpose)


def _values(feature: Feature, columns: np.ndarray) -> np.ndarray | list[str | None]:
    """`(n_rows,)`: numbers where they have an order, dates as years and their parts, else words."""
    match feature.kind:
        case "numeric":
            return columns[:, 0]
        case "date":
            return 1970 + columns[:, 0].astype(np.float64) / DAYS_A_YEAR
        case "boolean":
            return [None if np.isnan(code) else short(bool(code)) for code in columns[:, 0]]
        case _:
            return [named_value(feature, codes) for codes in columns]


def _name(player: dict[str, Any]) -> str:
    """A feature, or a channel of a series in a window of time."""
    if "window" not in player:
        return player["feature"]
    start, end = player["window"]
    return f"channel {player['channel']}, steps {start} to {end - 1}"


def _target(document: dict[str, Any], name: str | None) -> dict[str, Any]:
    targets = {target["target"]: target for target in document["targets"]}
    if name is None and len(targets) == 1:
        return next(iter(targets.values()))
    if name not in targets:
        received = "nothing" if name is None else describe(name)
        raise InvalidRequest([Fault("query parameter target", f"one of {', '.join(targets)}", received)])
    return targets[name]


def _column(signature: Signature, name: str | None) -> int:
    names = [feature.name for feature in signature.features if feature.kind != "text"]
    if name not in names:
        received = "nothing" if name is None else describe(name)
        raise InvalidRequest([Fault("query parameter feature", f"one of {', '.join(names)}", received)])
    return signature.feature_names.index(name)


def _lines(attributed: Attributed, signature: Signature, target: dict[str, Any]) -> np.ndarray:
    return np.flatnonzero(attributed.target_of == signature.targets.index(target["target"]))


def _drawing_of_images(
    job: ExplanationJob,
    document: dict[str, Any],
    target: dict[str, Any],
    signature: Signature,
    attributed: Attributed,
    plot: Plot,
) -> tuple[PictureKind, dict[str, Any]]:
    """How much each pixel matters, over the mean image."""
    assert signature.image is not None
    if plot != "bar":
        raise InvalidRequest([Fault("query parameter plot", "bar: pixels have no line of their own", describe(plot))])
    if attributed.rows is None:
        raise _not_kept(job, document, "drawn")
    lines = _lines(attributed, signature, target)
    words = _caption(document, target)
    caption = Caption(words.title, words.output, words.summary, target["base_value"], target["mean_value"])
    return "heatmap", {
        "image": attributed.rows[attributed.row_of[lines]].mean(axis=0),
        "value_range": signature.image.value_range,
        "attributions": np.array(target["heatmap"]["mean_absolute_attributions"]),
        "scale": "magnitude",
        "caption": caption,
    }


def _caption(document: dict[str, Any], target: dict[str, Any]) -> GlobalCaption:
    receipt = document["receipt"]
    rows = f"{target['rows']:,} rows of {document['dataset'] or 'inputs'}"
    output = target["target"] if receipt["output"] == "value" else f"{receipt['output']} of {target['target']}"
    return GlobalCaption(
        title=f"{document['model']} v{document['version']} over {rows}",
        output=output,
        method=receipt["method"],
        rows=target["rows"],
    )
