"""What a version takes and gives: its features, task, labels and units."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

FeatureKind = Literal["numeric", "boolean", "categorical", "date", "text", "image", "series"]
Task = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class Feature:
    """A raw input that a person names.

    `shape` is `()` for a column and `(height, width, channels)` for an image. `value_range` is what the training
    data spanned; for an image it is the data set's declared scale, and values outside it are refused.
    """

    name: str
    kind: FeatureKind
    shape: tuple[int, ...]
    value_range: tuple[float, float]
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, slots=True)
class Signature:
    """The contract of a version: its features in order, its target, and what its outputs mean.

    A signature holds either columns only (the network takes one matrix, `(n_rows, n_features)`) or a single image
    (the network takes `(n_rows, height, width, channels)`).
    """

    features: tuple[Feature, ...]
    task: Task
    target: str
    labels: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    unit: str | None = None

    def __post_init__(self) -> None:
        kinds = {feature.kind for feature in self.features}
        if kinds != {"numeric"} and (kinds != {"image"} or len(self.features) != 1):
            raise ValueError(
                f"A signature holds columns or exactly one image. Received: {[f.kind for f in self.features]}"
            )
        if (self.task == "classification") != (len(self.labels) >= 2):
            raise ValueError(f"A {self.task} signature cannot have the labels {self.labels}.")

    @property
    def image(self) -> Feature | None:
        """The one image feature, or None for a signature of columns."""
        return self.features[0] if self.features[0].kind == "image" else None

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row as the network takes it."""
        return self.image.shape if self.image else (len(self.features),)

    @property
    def targets(self) -> tuple[str, ...]:
        """What can be explained: the labels of a classification, the target of a regression."""
        return self.labels or (self.target,)

    @property
    def n_network_outputs(self) -> int:
        """Units in the output layer: one for regression and for two labels (a sigmoid), else one a label."""
        return len(self.labels) if len(self.labels) > 2 else 1

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that can be explained; the first is the default."""
        return ("probability", "logit") if self.task == "classification" else ("value",)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> Signature:
        features = tuple(
            Feature(
                name=feature["name"],
                kind=feature["kind"],
                shape=tuple(feature["shape"]),
                value_range=(feature["value_range"][0], feature["value_range"][1]),
                dtype=feature["dtype"],
            )
            for feature in document["features"]
        )
        return Signature(
            features=features,
            task=document["task"],
            target=document["target"],
            labels=tuple(document["labels"]),
            ignored=tuple(document["ignored"]),
            unit=document["unit"],
        )
