"""Pictures: their size, their themes, and colours where the attributions are."""

import base64
import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from explain.caption import Caption, PictureFormat, Theme
from explain.pictures.heatmap import heatmap
from explain.pictures.style import PALETTES, colour
from explain.pictures.waterfall import waterfall

CAPTION = Caption("digits v1: 8 (0.99)", "probability of 8", "exact, 64 evaluations", 0.1, 0.99)
WIDTH = 800
SVG = "{http://www.w3.org/2000/svg}"
BLUE = np.rint(255 * colour(PALETTES["light"].towards)).astype(int)
ORANGE = np.rint(255 * colour(PALETTES["light"].against)).astype(int)


def test_heatmap_and_waterfall_are_png() -> None:
    pictures = [heatmap_of(np.eye(8)), waterfall_of(10)]

    assert ["PNG", "PNG"] == [Image.open(io.BytesIO(picture)).format for picture in pictures]


@pytest.mark.parametrize("width", [333, 777, 800, 1601])
def test_pictures_have_the_width_that_was_asked(width: int) -> None:
    pictures = [heatmap_of(np.eye(8), width=width), waterfall_of(10, width=width)]

    assert [width, width] == [pixels(picture).shape[1] for picture in pictures]


@pytest.mark.parametrize("draw", [lambda theme: heatmap_of(np.eye(8), theme=theme), lambda t: waterfall_of(3, theme=t)])
def test_dark_pictures_stand_on_a_dark_page(draw: Any) -> None:
    light, dark = pixels(draw("light")), pixels(draw("dark"))

    assert [255, 255, 255] == light[0, 0].tolist()
    assert [0x14, 0x18, 0x1F] == dark[0, 0].tolist()
    assert light.mean() > 128 > dark.mean()


@pytest.mark.parametrize(("line", "column"), [(0, 0), (2, 5), (6, 1), (7, 7)])
def test_strongest_blue_lies_where_the_largest_attribution_is(line: int, column: int) -> None:
    attributions = np.random.default_rng(0).uniform(-0.5, 0.5, size=(8, 8))
    attributions[line, column] = 1.0

    picture = pixels(heatmap_of(attributions))

    assert (line, column) == place_of(BLUE, picture)


def test_strongest_orange_lies_where_the_largest_attribution_against_is() -> None:
    attributions = np.random.default_rng(0).uniform(-0.5, 0.5, size=(8, 8))
    attributions[3, 6] = -1.0

    picture = pixels(heatmap_of(attributions))

    assert (3, 6) == place_of(ORANGE, picture)


def test_heatmap_without_any_attribution_has_no_colour_over_the_image() -> None:
    picture = pixels(heatmap_of(np.zeros((8, 8))))

    top, bottom, left, right = panel()
    inside = picture[top + 2 : bottom - 2, left + 2 : right - 2]
    assert 0 == (inside.max(axis=2) - inside.min(axis=2)).max()


def test_heatmap_shows_a_colour_image_in_colour() -> None:
    red = np.zeros((8, 8, 3))
    red[..., 0] = 255

    picture = pixels(heatmap(red, (0, 255), np.zeros((8, 8)), CAPTION, width=WIDTH))

    assert ([255, 0, 0] == picture[:, : WIDTH // 2]).all(axis=2).sum() > 50_000


def test_waterfall_of_nothing_but_zeros_is_drawn() -> None:
    picture = pixels(waterfall(["a", "b"], [1.0, 2.0], np.zeros(2), np.zeros(2), CAPTION, width=WIDTH))

    assert WIDTH == picture.shape[1]


def test_waterfall_stops_growing_beyond_fifteen_bars() -> None:
    heights = [pixels(waterfall_of(n_features)).shape[0] for n_features in (5, 15, 16, 30)]

    assert heights[0] < heights[1] == heights[2] == heights[3]


def test_waterfall_bars_are_as_long_as_their_attributions() -> None:
    attributions = np.array([0.6, -0.3])
    caption = Caption("t", "value", "exact", 0.0, 0.3)

    picture = pixels(waterfall(["a", "b"], [1, 2], attributions, np.zeros(2), caption, width=WIDTH))

    blue, orange = (longest_run(is_colour(picture, colour)) for colour in (BLUE, ORANGE))
    assert pytest.approx(2.0, rel=0.03) == blue / orange


def test_waterfall_draws_error_bars_only_where_there_is_an_error() -> None:
    attributions = np.array([0.6, -0.3])

    exact, sampled = (
        waterfall(["a", "b"], [1, 2], attributions, half_widths, CAPTION, width=WIDTH)
        for half_widths in (np.zeros(2), np.array([0.1, 0.0]))
    )

    ink = np.array([0x1A, 0x20, 0x2C])
    assert is_colour(pixels(sampled), ink).sum() > is_colour(pixels(exact), ink).sum()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_svg_says_in_words_what_it_shows_and_keeps_text_as_text(theme: Theme) -> None:
    attributions = np.zeros((8, 8))
    attributions[2, 5], attributions[6, 1] = 0.5, -0.25

    picture, bars = (
        ElementTree.fromstring(svg)
        for svg in (
            heatmap_of(attributions, theme=theme, picture_format="svg"),
            waterfall_of(3, theme=theme, picture_format="svg"),
        )
    )

    assert "img" == picture.get("role")
    assert "digits v1: 8 (0.99)" == picture.findtext(f"{SVG}title")
    assert (
        "Heatmap of attributions to the probability of 8 over an image of 8 x 8 pixels. "
        "Most for it: +0.500 at line 3, column 6. Most against it: -0.250 at line 7, column 2. "
        "0.1 on average, 0.99 here; exact, 64 evaluations." == picture.findtext(f"{SVG}desc")
    )
    assert "feature 1 = 0" in {text.text for text in bars.iter(f"{SVG}text")}


def test_words_in_a_picture_are_escaped() -> None:
    names = ["<b>&", '"plain"']

    svg = waterfall(
        names, ["</desc>", 1], np.array([1.0, -2.0]), np.array([np.nan, 0.5]), CAPTION, picture_format="svg"
    )

    described = ElementTree.fromstring(svg).findtext(f"{SVG}desc", "")
    assert '"plain" = 1: -2.00 (± 0.500); <b>& = </desc>: +1.00; ' in described


@pytest.mark.parametrize("picture_format", ["png", "svg"])
def test_the_same_picture_has_the_same_bytes(picture_format: PictureFormat) -> None:
    first, again = (
        (
            heatmap_of(np.eye(8), picture_format=picture_format),
            waterfall_of(10, theme="dark", picture_format=picture_format),
        )
        for _ in range(2)
    )

    assert first == again


@pytest.mark.parametrize("width", [333, 800, 1601])
def test_svg_has_the_shape_of_the_png(width: int) -> None:
    svg = ElementTree.fromstring(waterfall_of(10, width=width, picture_format="svg"))

    shown = pixels(waterfall_of(10, width=width))
    assert str(width) == svg.get("width")
    assert pytest.approx(shown.shape[0], abs=1) == int(svg.get("height", 0))


@pytest.mark.parametrize(("theme", "page"), [("light", "#ffffff"), ("dark", "#14181f")])
def test_svg_stands_on_the_page_of_its_theme(theme: Theme, page: str) -> None:
    svg = ElementTree.fromstring(heatmap_of(np.eye(8), theme=theme, picture_format="svg"))

    first = next(svg.iter(f"{SVG}rect"))
    assert page == first.get("fill")


def test_svg_heatmap_lays_the_colours_over_the_image() -> None:
    """Where there is attribution, the colours of the bar; where there is none, the image in grey; sharp cells."""
    first_column = np.zeros((8, 8))
    first_column[:, 0] = 1.0
    svg = ElementTree.fromstring(heatmap_of(first_column, picture_format="svg"))

    _, overlay, _ = (
        Image.open(io.BytesIO(base64.b64decode(image.get("href", "").partition(",")[2]))).convert("RGB")
        for image in svg.iter(f"{SVG}image")
    )

    side = overlay.width
    assert side > 500
    assert BLUE.tolist() == list(overlay.getpixel((side // 16, side // 2)))
    assert 1 == len(set(overlay.getpixel((side // 2, side // 2))))


def test_png_says_in_words_what_it_shows() -> None:
    picture, bars = (Image.open(io.BytesIO(png)) for png in (heatmap_of(np.eye(8)), waterfall_of(3)))

    assert "digits v1: 8 (0.99)" == picture.info["Title"]
    assert picture.info["Description"].startswith("Heatmap of attributions to the probability of 8")
    assert bars.info["Description"].startswith("Waterfall of attributions to the probability of 8. feature")


def heatmap_of(
    attributions: Any, *, width: int = WIDTH, theme: Theme = "light", picture_format: PictureFormat = "png"
) -> bytes:
    image = np.random.default_rng(1).uniform(0, 16, size=(8, 8, 1))
    return heatmap(image, (0.0, 16.0), attributions, CAPTION, width=width, theme=theme, picture_format=picture_format)


def waterfall_of(
    n_features: int, *, width: int = WIDTH, theme: Theme = "light", picture_format: PictureFormat = "png"
) -> bytes:
    rng = np.random.default_rng(n_features)
    names = [f"feature {i}" for i in range(n_features)]
    values: list[Any] = [1.5, *range(n_features - 1)]
    attributions, half_widths = rng.normal(size=n_features), rng.uniform(0, 0.1, size=n_features)
    return waterfall(
        names, values, attributions, half_widths, CAPTION, width=width, theme=theme, picture_format=picture_format
    )


def pixels(picture: bytes) -> Any:
    """`(height, width, 3)`."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def is_colour(picture: Any, colour: Any) -> Any:
    return np.abs(picture - colour).max(axis=2) <= 3


def longest_run(mask: Any) -> int:
    return int(mask.sum(axis=1).max())


def panel() -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the overlay, the second image of the SVG."""
    _, overlay, *_ = ElementTree.fromstring(heatmap_of(np.eye(8), picture_format="svg")).iter(f"{SVG}image")
    x, y, width, height = (float(overlay.get(name, 0)) for name in ("x", "y", "width", "height"))
    return round(y), round(y + height), round(x), round(x + width)


def place_of(colour: Any, picture: Any) -> tuple[int, int]:
    """The line and column of the 8 x 8 overlay whose cell has the colour."""
    top, bottom, left, right = panel()
    lines, columns = np.nonzero(is_colour(picture[top:bottom, left:right], colour))
    return int(8 * np.median(lines) / (bottom - top)), int(8 * np.median(columns) / (right - left))
