"""What happens to raw values inside the model, before its network: for all features, and for single ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field

from models.encoding.dates import EXAMPLE, days_of
from models.errors import Fault, pointer
from models.facts import DataFacts
from models.rows import describe
from models.signature import FeatureKind
from models.spec.part import Part

Scaling = Literal["standard", "min-max", "robust", "none"]
MissingRule = Literal["indicator", "mean", "median", "most-frequent"]
Coding = Literal["auto", "one-hot", "embedding", "hashing"]
Unseen = Literal["auto", "own-place", "refuse"]
DatePart = Literal["trend", "year", "season", "month", "day", "weekday", "hour"]
DATE_PARTS: tuple[DatePart, ...] = get_args(DatePart)


class ConstantSpec(Part):
    """What a missing value becomes: a number, a category, a date in ISO 8601, true or false."""

    constant: float | bool | str


class ClipSpec(Part):
    """Values beyond these quantiles of the train part become the quantile."""

    clip: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(gt=0, le=1)]]


class TextSpec(Part):
    """How texts are read: their first `length` words, of the `words` that stand in the most texts of the train part."""

    words: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    length: Annotated[int, Field(ge=1, le=4096)] = 64
    width: Annotated[int, Field(ge=1, le=1024, description="numbers that a word is embedded as")] = 16


Side = Annotated[int, Field(ge=1, le=4096)]


class ImageSpec(Part):
    """What images become: their height and width (null: as they are), and their values."""

    resize: Annotated[tuple[Side, Side] | None, Field(description="height and width")] = None
    rescale: Annotated[Literal["unit", "symmetric"], Field(description="to 0..1, or to -1..1")] = "unit"


class FeaturePreprocessing(Part):
    """What is different for one feature. Keys left out are those of all features."""

    scaling: Scaling | None = None
    missing: MissingRule | ConstantSpec | None = None
    outliers: Literal["none", "clip"] | ClipSpec | None = None
    categorical: Coding | None = None
    unseen: Unseen | None = None
    dates: tuple[DatePart, ...] | None = None
    text: TextSpec | None = None


class PreprocessingSpec(Part):
    scaling: Scaling = "standard"
    missing: MissingRule | ConstantSpec = "indicator"
    outliers: Literal["none", "clip"] | ClipSpec = "none"
    categorical: Coding = "auto"
    unseen: Unseen = "auto"
    rare: Annotated[int, Field(ge=1, description="categories of fewer train rows count as unseen ones")] = 5
    max_categories: Annotated[int, Field(ge=1, le=100_000, description="the others count as unseen ones")] = 1000
    hash_buckets: Annotated[int, Field(ge=2, le=100_000)] = 64
    embedding: Annotated[
        int | None, Field(ge=1, le=1024, description="numbers a category is embedded as; null: by how many there are")
    ] = None
    dates: tuple[DatePart, ...] | None = None
    text: TextSpec = TextSpec()
    image: ImageSpec = ImageSpec()
    features: dict[str, FeaturePreprocessing] = Field(default={})

    def of(self, feature: str) -> PreprocessingSpec:
        """What holds for one feature."""
        own = self.features.get(feature)
        changes = {} if own is None else {name: value for name, value in own if value is not None}
        return self.model_copy(update=changes)


DEFAULT_CLIP = (0.01, 0.99)
_CATEGORICAL: frozenset[FeatureKind] = frozenset({"categorical"})
_APPLIES: dict[str, frozenset[FeatureKind]] = {
    "scaling": frozenset({"numeric", "series"}),
    "missing": frozenset({"numeric", "boolean", "categorical", "date", "series"}),
    "outliers": frozenset({"numeric", "series"}),
    "categorical": _CATEGORICAL,
    "unseen": _CATEGORICAL,
    "dates": frozenset({"date"}),
    "text": frozenset({"text"}),
    "image": frozenset({"image"}),
}


def clip_quantiles(outliers: Literal["none", "clip"] | ClipSpec) -> tuple[float, float] | None:
    """The quantiles beyond which values are clipped; None where they are not."""
    if isinstance(outliers, ClipSpec):
        return outliers.clip
    return DEFAULT_CLIP if outliers == "clip" else None


def preprocessing_misfits(preprocessing: PreprocessingSpec, facts: DataFacts) -> Iterator[Fault]:
    """Where what is asked for does not suit the features."""
    at = ("preprocessing",)
    yield from _clip_misfits(preprocessing.outliers, *at)
    if isinstance(preprocessing.missing, ConstantSpec) and not _is_number(preprocessing.missing.constant):
        expected = "a number; that of a category or a date stands in preprocessing.features"
        yield Fault(pointer(*at, "missing", "constant"), expected, describe(preprocessing.missing.constant))
    kinds = set(facts.kinds.values())
    names = ("categorical", "unseen", "dates", "text", "image", "rare", "max_categories", "hash_buckets", "embedding")
    for name in names:
        # A default is for whatever there is.
        changed = getattr(preprocessing, name) != PreprocessingSpec.model_fields[name].default
        if changed and not kinds & _APPLIES.get(name, _CATEGORICAL):
            (wanted,) = _APPLIES.get(name, _CATEGORICAL)
            yield Fault(pointer(*at, name), f"nothing: no feature is {wanted}", "a setting for one")
    if preprocessing.dates is not None and not preprocessing.dates:
        yield Fault(pointer(*at, "dates"), f"one or more of {', '.join(DATE_PARTS)}", "a list of 0 values")
    if facts.several_sizes and "image" in kinds and preprocessing.image.resize is None:
        cure = 'say what all are to become: "preprocessing": {"image": {"resize": [height, width]}}'
        yield Fault(pointer(*at, "image", "resize"), "a height and a width", "null, for images of several sizes", cure)
    for feature, own in preprocessing.features.items():
        yield from _feature_misfits(feature, own, facts)


def _feature_misfits(feature: str, own: FeaturePreprocessing, facts: DataFacts) -> Iterator[Fault]:
    at = ("preprocessing", "features", feature)
    if feature not in facts.kinds:
        yield Fault(pointer(*at), "a feature of the data set: " + ", ".join(facts.kinds), "an unknown name")
        return
    kind = facts.kinds[feature]
    for name in sorted(own.model_fields_set):
        if getattr(own, name) is not None and kind not in _APPLIES[name]:
            expected = f"one of {', '.join(key for key, kinds in _APPLIES.items() if kind in kinds)}"
            yield Fault(pointer(*at, name), expected, f"a setting that a {kind} feature does not have")
    if own.outliers is not None:
        yield from _clip_misfits(own.outliers, *at)
    if own.dates is not None and not own.dates:
        yield Fault(pointer(*at, "dates"), f"one or more of {', '.join(DATE_PARTS)}", "a list of 0 values")
    if isinstance(own.missing, ConstantSpec) and (wanted := _constant_misfit(kind, own.missing.constant)):
        yield Fault(pointer(*at, "missing", "constant"), wanted, describe(own.missing.constant))
    if own.missing in ("mean", "median") and kind == "categorical":
        yield Fault(pointer(*at, "missing"), "'indicator', 'most-frequent' or a constant", describe(own.missing))


def _constant_misfit(kind: FeatureKind, constant: float | bool | str) -> str | None:
    """What a constant should have been for a feature of a kind; None where it is."""
    match kind:
        case "categorical":
            return None if isinstance(constant, str) else "a category"
        case "boolean":
            return None if isinstance(constant, bool) else "true or false"
        case "date":
            written = isinstance(constant, str) and days_of(constant) is not None
            return None if written else f"a date in ISO 8601, such as {EXAMPLE!r}"
        case _:
            return None if _is_number(constant) else "a number"


def _clip_misfits(outliers: Literal["none", "clip"] | ClipSpec, *at: str) -> Iterator[Fault]:
    if isinstance(outliers, ClipSpec) and outliers.clip[0] >= outliers.clip[1]:
        yield Fault(pointer(*at, "outliers", "clip"), "the lower quantile first", f"{list(outliers.clip)}")


def _is_number(value: float | bool | str) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
