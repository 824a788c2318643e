"""Which colours a picture has: the palettes of its themes, and the ramps from nothing to the largest attribution.

Blue speaks for an output and orange against it: the pair that people with any colour blindness tell apart (Okabe and
Ito 2008). Both ends of a ramp are equally far from the page in lightness, so that -0.2 looks as strong as +0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.caption import Theme

Colours = NDArray[np.float64]
"""`(..., 3)`: red, green and blue from 0 to 1, in sRGB."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a theme.

    Attributes:
        page, ink, quiet: the ground, the text on it, and text that is less important.
        line: axes, frames and connections.
        towards, against: the ends of the diverging ramp, and the bars.
        strength: what has no sign: saliency, and mean magnitudes.
        values: a feature's values from low to high; `no_value` where they have no order or are missing.
    """

    page: str
    ink: str
    quiet: str
    line: str
    towards: str
    against: str
    strength: str
    values: tuple[str, ...]
    no_value: str


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        page="#ffffff",
        ink="#1a202c",
        quiet="#4a5568",
        line="#a0aec0",
        towards="#1f6fbf",
        against="#b04f0c",
        strength="#6b4fa8",
        values=("#440154", "#3b528b", "#21918c", "#3fa35c", "#8f9a14"),
        no_value="#718096",
    ),
    "dark": Palette(
        page="#14181f",
        ink="#e2e8f0",
        quiet="#a0aec0",
        line="#5a667a",
        towards="#6cb6f5",
        against="#f0994a",
        strength="#b79cf0",
        values=("#7b4fa8", "#5a7fc4", "#35b3a5", "#86d858", "#fde725"),
        no_value="#8a97aa",
    ),
}


def diverging(parts: Any, palette: Palette) -> Colours:
    """`(...)` parts from -1 (against) over 0 (the page) to 1 (towards) as `(..., 3)` colours."""
    parts = np.clip(np.asarray(parts, dtype=np.float64), -1, 1)
    return np.where(
        parts[..., None] < 0,
        _ramp((palette.page, palette.against), -parts),
        _ramp((palette.page, palette.towards), parts),
    )


def strength(parts: Any, palette: Palette) -> Colours:
    """`(...)` parts from 0 (the page) to 1 as `(..., 3)` colours."""
    return _ramp((palette.page, palette.strength), parts)


def value_colours(parts: Any, palette: Palette) -> Colours:
    """`(...)` places of a feature's values, from 0 (low) to 1 (high), as `(..., 3)` colours."""
    return _ramp(palette.values, parts)


def mixed(one: Any, other: Any, part: Any) -> Colours:
    """`one`, with `part` (0 to 1) of `other` mixed in. `(..., 3)` each, and `(...)`."""
    part = np.asarray(part, dtype=np.float64)[..., None]
    return (1 - part) * np.asarray(one) + part * np.asarray(other)


def colour(name: str) -> Colours:
    """`#rrggbb` as `(3,)`."""
    return np.array([int(name[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def name_of(colour: Any) -> str:
    """`(3,)` as `#rrggbb`."""
    red, green, blue = np.rint(255 * np.asarray(colour)).astype(int).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.1, "contrast ratio" and "relative luminance")."""
    light, dark = sorted(
        (float(linear(colour(name)) @ (0.2126, 0.7152, 0.0722)) for name in (one, other)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


def readable_on(ground: str) -> str:
    """Black or white, whichever is easier to read on a ground: at least 4.58:1, whatever the ground."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, ground))


def linear(colours: Colours) -> Colours:
    """sRGB without its gamma (IEC 61966-2-1)."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _gamma(colours: Colours) -> Colours:
    colours = np.clip(colours, 0, 1)
    return np.where(colours <= 0.0031308, 12.92 * colours, 1.055 * colours ** (1 / 2.4) - 0.055)


# Ottosson, "A perceptual color space for image processing" (2020): from linear sRGB to cones, and from those to Oklab.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


_FROM_CONES, _FROM_OKLAB = np.linalg.inv(_CONES), np.linalg.inv(_OKLAB)


def oklab(colours: Colours) -> Colours:
    """`(..., 3)` sRGB as lightness, green-red and blue-yellow, in which distances look alike everywhere."""
    return np.cbrt(linear(colours) @ _CONES.T) @ _OKLAB.T


def _ramp(stops: tuple[str, ...], parts: Any) -> Colours:
    """Even steps to the eye from the first stop to the last."""
    parts = np.clip(np.asarray(parts, dtype=np.float64), 0, 1)
    places = np.linspace(0, 1, len(stops))
    known = oklab(np.stack([colour(stop) for stop in stops]))
    between = np.stack([np.interp(parts, places, known[:, axis]) for axis in range(3)], axis=-1)
    cones = (between @ _FROM_OKLAB.T) ** 3
    return _gamma(cones @ _FROM_CONES.T)
