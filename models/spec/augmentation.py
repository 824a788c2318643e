"""How training rows are changed at random, anew in each epoch, so that a network learns what does not matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from models.errors import Fault, pointer
from models.signature import FeatureKind
from models.spec.part import Part


class FlipSpec(Part):
    """Half of the images are mirrored."""

    type: Literal["flip"]
    direction: Literal["horizontal", "vertical", "both"] = "horizontal"


class ShiftSpec(Part):
    """Images are moved by up to `fraction` of their height and width; what is uncovered repeats the edge."""

    type: Literal["shift"]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1


class RotateSpec(Part):
    """Images are turned by up to so many degrees, either way."""

    type: Literal["rotate"]
    degrees: Annotated[float, Field(gt=0, le=180)] = 10.0


class ZoomSpec(Part):
    """Images are enlarged or reduced by up to `fraction`."""

    type: Literal["zoom"]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1


class NoiseSpec(Part):
    """Normal noise is added to what the network is given: scaled columns, images in [0, 1]."""

    type: Literal["noise"]
    deviation: Annotated[float, Field(gt=0, le=1)] = 0.1


AugmentationSpec = Annotated[FlipSpec | ShiftSpec | RotateSpec | ZoomSpec | NoiseSpec, Field(discriminator="type")]


def augmentation_misfits(augmentation: tuple[AugmentationSpec, ...], *, kind: FeatureKind | None) -> Iterator[Fault]:
    """Where rows cannot be changed so: only images can be flipped, shifted, rotated and zoomed, and noise would make
    words of what fills a text behind its own.

    Args:
        kind: of the one feature of a row; None where it has several.
    """
    if kind == "text" and augmentation:
        yield Fault("#/regularization/augmentation", "none for a text", f"a list of {len(augmentation)} values")
        return
    for i, each in enumerate(augmentation):
        if each.type != "noise" and kind != "image":
            yield Fault(pointer("regularization", "augmentation", i, "type"), "'noise'", f"the string {each.type!r}")
