"""Pictures of explanations: the heatmap over an image, the waterfall over features. PNG or SVG bytes out."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from explain.caption import Bar, Caption, PictureFormat, Theme, describe_heatmap, describe_waterfall, short

DPI = 100
SVG_IMAGE_DPI = 300
MAX_BARS = 15


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a theme. For and against are a blue and an orange that colour-blind people tell apart."""

    page: str
    ink: str
    faint: str
    against: str = "#d95f02"
    towards: str = "#2b6cb0"


PALETTES: dict[Theme, Palette] = {
    "light": Palette(page="#ffffff", ink="#1a202c", faint="#a0aec0"),
    "dark": Palette(page="#14181f", ink="#e2e8f0", faint="#4a5568", against="#f6993f", towards="#63b3ed"),
}


def heatmap(
    image: NDArray[Any],
    value_range: tuple[float, float],
    attributions: NDArray[np.float64],
    caption: Caption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """The image beside itself with attributions laid over it.

    Colours diverge from the page's own colour, symmetric about zero; where a pixel has no attribution the image
    shows through in grey.

    Args:
        image: `(height, width, channels)` in the units of `value_range`.
        attributions: `(height, width)`.
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.
    """
    palette = PALETTES[theme]
    low, high = value_range
    picture = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    grey = picture.mean(axis=2)
    figure = _figure(width, 0.56, palette)
    left = figure.add_axes((0.03, 0.14, 0.40, 0.70))
    right = figure.add_axes((0.455, 0.14, 0.40, 0.70))
    bar = figure.add_axes((0.875, 0.14, 0.022, 0.70))
    shown = grey if picture.shape[2] != 3 else picture
    left.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    # Faint under the colours, so that strokes stay visible and colours stay true.
    backdrop = grey if theme == "dark" else 1 - grey
    right.imshow(backdrop, cmap="gray", vmin=0, vmax=1, alpha=0.22, interpolation="nearest")
    limit = float(np.abs(attributions).max()) or 1.0
    colours = LinearSegmentedColormap.from_list("attribution", [palette.against, palette.page, palette.towards])
    strength = 0.2 + 0.8 * np.sqrt(np.abs(attributions) / limit)
    norm = TwoSlopeNorm(0.0, -limit, limit)
    overlay = colours(norm(attributions))
    overlay[..., 3] = np.where(attributions == 0, 0.0, strength)
    right.imshow(overlay, interpolation="nearest")
    for axes, name in ((left, "input"), (right, f"attribution to the {caption.output}")):
        axes.set_title(name, color=palette.ink, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(palette.faint)
    scale = figure.colorbar(ScalarMappable(norm, colours), cax=bar)
    scale.ax.tick_params(colors=palette.ink, labelsize=8)
    scale.outline.set_edgecolor(palette.faint)  # pyright: ignore[reportCallIssue]
    _write_caption(figure, caption, palette)
    return _bytes(figure, picture_format, width, caption.title, describe_heatmap(attributions, caption))


def waterfall(
    names: list[str],
    values: list[Any],
    attributions: NDArray[np.float64],
    half_widths: NDArray[np.float64],
    caption: Caption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """How the prediction comes about: from the base value, feature by feature, to the value.

    The largest attributions stand on top; those beyond the first fifteen are summed in one bar.

    Args:
        names, values: of each feature, in the order of `attributions`; a value of None is not shown.
        attributions, half_widths: `(n_features,)`; half-widths of the 95 % intervals are drawn as error bars.
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.
    """
    palette = PALETTES[theme]
    order = np.argsort(-np.abs(attributions), kind="stable")
    shown, rest = (order, order[:0]) if len(order) <= MAX_BARS else (order[: MAX_BARS - 1], order[MAX_BARS - 1 :])
    labels = [names[i] if values[i] is None else f"{names[i]} = {short(values[i])}" for i in shown.tolist()]
    bars = [
        Bar(label, float(attributions[i]), float(half_widths[i]))
        for label, i in zip(labels, shown.tolist(), strict=True)
    ]
    if len(rest):
        half_width = float(np.sqrt((half_widths[rest] ** 2).sum()))
        bars.append(Bar(f"{len(rest)} other features", float(attributions[rest].sum()), half_width))
    figure = _figure(width, 0.20 + 0.045 * len(bars), palette)
    # The bars start from the base value at the bottom and end at the value on top.
    axes = figure.add_axes((0.30, _inches(figure, 0.62), 0.66, 1 - _inches(figure, 1.22)))
    start = caption.base_value
    lefts: list[float] = []
    rights: list[float] = []
    for place, bar in enumerate(reversed(bars)):
        colour = palette.towards if bar.attribution >= 0 else palette.against
        axes.barh(place, bar.attribution, left=start, height=0.66, color=colour)
        end = start + bar.attribution
        # Half-widths that are not known are NaN.
        error = bar.half_width if bar.half_width > 0 else 0.0
        if error:
            axes.errorbar(end, place, xerr=error, color=palette.ink, capsize=3, linewidth=1)
        axes.plot([end, end], [place - 0.33, place + 1.33], color=palette.faint, linewidth=0.8, zorder=0)
        lefts.append(min(start, end - error))
        rights.append(max(start, end + error))
        start = end
    span = max(rights) - min(lefts) or 1.0
    for place, bar in enumerate(reversed(bars)):
        text = f"{bar.attribution:+.3g}"
        axes.text(rights[place] + 0.015 * span, place, text, color=palette.ink, va="center", fontsize=9)
    axes.set_xlim(min(lefts) - 0.04 * span, max(rights) + 0.13 * span)
    axes.set_yticks(range(len(bars)), [bar.label for bar in reversed(bars)], fontsize=9, color=palette.ink)
    axes.axvline(caption.base_value, color=palette.faint, linestyle=":", linewidth=1, zorder=0)
    axes.tick_params(axis="both", colors=palette.ink, labelsize=9, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.faint)
    axes.set_xlabel(caption.output, color=palette.ink, fontsize=10)
    _write_caption(figure, caption, palette)
    return _bytes(figure, picture_format, width, caption.title, describe_waterfall(bars, caption))


def _figure(width: int, aspect: float, palette: Palette) -> Figure:
    # Text keeps its size relative to the picture: a wider picture is a finer one, not one with more room.
    return Figure(figsize=(8, 8 * aspect), dpi=DPI * width / 800, facecolor=palette.page)


def _inches(figure: Figure, inches: float) -> float:
    return inches / figure.get_figheight()


def _write_caption(figure: Figure, caption: Caption, palette: Palette) -> None:
    top = 1 - _inches(figure, 0.08)
    figure.text(0.03, top, caption.title, color=palette.ink, fontsize=12, weight="bold", va="top")
    figure.text(0.03, _inches(figure, 0.06), caption.summary, color=palette.ink, fontsize=8, va="bottom", alpha=0.8)
    for axes in figure.axes:
        axes.set_facecolor(palette.page)


def _bytes(figure: Figure, picture_format: PictureFormat, width: int, title: str, description: str) -> bytes:
    """The same figure gives the same bytes: no dates, no random names."""
    buffer = io.BytesIO()
    if picture_format == "png":
        metadata = {"Title": title, "Description": description}
        FigureCanvasAgg(figure).print_png(buffer, metadata=metadata)
        return buffer.getvalue()
    # Text stays text, to be searched and read aloud. Images are drawn finely, since not every viewer keeps cells sharp.
    figure.set_dpi(SVG_IMAGE_DPI)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vitrine", "image.composite_image": False}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Title": title, "Date": None})
    height = round(width * figure.get_figheight() / figure.get_figwidth())
    picture = re.sub(
        r'<svg [^>]*?width="[^"]*" height="[^"]*"',
        lambda root: re.sub(r"width=.*", f'width="{width}" height="{height}" role="img"', root[0]),
        buffer.getvalue().decode(),
        count=1,
    )
    return picture.replace("</title>", f"</title>\n <desc>{escape(description)}</desc>", 1).encode()
