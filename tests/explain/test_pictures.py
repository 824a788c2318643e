"""What every kind of picture promises: its size, its words, the same bytes again, colours that all tell apart."""

import io
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from explain.caption import PICTURE_KINDS, Caption, GlobalCaption, PictureFormat, PictureKind, Theme
from explain.errors import NothingToDraw
from explain.pictures.draw import PICTURES, draw
from explain.pictures.fonts import width_of
from explain.pictures.numbers import number, signed, ticks
from explain.pictures.style import PALETTES, colour, contrast, diverging, linear, name_of, oklab, readable_on, strength

SVG = "{http://www.w3.org/2000/svg}"
CAPTION = Caption("model v1: 8 (0.99)", "probability of 8", "exact, 64 evaluations", 0.1, 0.99)
GLOBAL = GlobalCaption("model v1 over 40 rows", "probability of 8", "exact", 40)
TEXT = "Not bad at all, but far too long"
SPANS = [match.span() for match in re.finditer(r"\w+", TEXT)]
THEMES: tuple[Theme, ...] = ("light", "dark")

# On linear RGB. The source: "A Physiologically-based Model for Simulation of Color Vision Deficiency" by Machado,
# Oliveira and Fernandes (2009), at severity 1.0.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def arguments_of(kind: PictureKind, scale: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    if kind == "heatmap":
        image = rng.uniform(0, 16, size=(8, 8, 1))
        attributions = scale * rng.uniform(-0.5, 0.5, size=(8, 8))
        attributions[2, 5] = scale
        return {"image": image, "value_range": (0, 16), "attributions": attributions, "caption": CAPTION}
    if kind in ("waterfall", "bars"):
        names = ["mean radius", *(f"feature {i}" for i in range(19))]
        attributions = scale * np.concatenate([[1.0], rng.uniform(-0.5, 0.5, size=19)])
        half_widths = np.abs(attributions) / 10
        half_widths[[1, 2]] = 0.0, np.nan
        return {"names": names, "values": [1.5, *range(19)], "attributions": attributions,
                "half_widths": half_widths, "caption": CAPTION}  # fmt: skip
    if kind == "tokens":
        return {"text": TEXT, "spans": SPANS, "attributions": scale * np.array([-0.2, 1, 0, 0.1, -0.1, 0, 0.3, -0.4]),
                "caption": CAPTION}  # fmt: skip
    if kind == "series":
        steps = rng.normal(size=(60, 2))
        steps[10:15, 1] = np.nan
        attributions = scale * rng.uniform(-0.5, 0.5, size=(6, 2))
        attributions[1, 0] = scale
        windows = [(i, i + 10) for i in range(0, 60, 10)]
        return {"steps": steps, "channels": ["pulse", "temperature"], "windows": windows,
                "attributions": attributions, "caption": CAPTION}  # fmt: skip
    if kind == "tree":
        return {"depths": [0, 1, 2, 2, 1], "branches": ["", "yes", "yes", "no", "no"],
                "words": ["mean radius of the cells, the worst of all <= 14.2", "age <= 40", "ham (0.99)",
                          "spam (0.61)", "spam (0.97)"],
                "rows": [400, 250, 200, 50, 150], "leaves": [False, False, True, True, True],
                "caption": GLOBAL}  # fmt: skip
    values, attributions = rng.normal(size=(3, 40)), scale * rng.normal(size=(40, 3)) * (3.0, 2.0, 1.0)
    names = ["pulse", "age", "height"]
    if kind == "beeswarm":
        return {"names": names, "values": values.tolist(), "attributions": attributions, "caption": GLOBAL}
    if kind == "importance":
        means = np.abs(attributions).mean(axis=0)
        intervals = np.column_stack([0.9 * means, 1.1 * means])
        return {"names": names, "means": means, "intervals": intervals, "caption": GLOBAL}
    return {"name": "pulse", "values": values[0].tolist(), "attributions": attributions[:, 0], "caption": GLOBAL,
            "coloured_by": ("age", values[1].tolist())}  # fmt: skip


LARGEST: dict[PictureKind, str] = {
    "heatmap": "Most for it: +1.00 at line 3, column 6",
    "waterfall": "mean radius = 1.5: +1.00 (± 0.100)",
    "bars": "mean radius = 1.5: +1.00 (± 0.100)",
    "tokens": 'Most for it: "bad" (+1.00)',
    "series": "Most for it: pulse at steps 10 to 19 (+1.00)",
    "beeswarm": "pulse: ",
    "importance": "pulse: ",
    "dependence": "Median attribution at ",
    "tree": "yes: age <= 40?; yes: ham (0.99); no: spam (0.61)",
}


def test_every_kind_has_a_picture() -> None:
    assert set(PICTURE_KINDS) == set(PICTURES)


@pytest.mark.parametrize("kind", PICTURE_KINDS)
@pytest.mark.parametrize("theme", THEMES)
def test_a_picture_has_its_size_page_and_words_in_both_formats(kind: PictureKind, theme: Theme) -> None:
    arguments = arguments_of(kind)

    png, again, svg, svg_again = (
        draw(kind, **arguments, width=401, theme=theme, picture_format=picture_format)
        for picture_format in ("png", "png", "svg", "svg")
    )

    image, root = Image.open(io.BytesIO(png)), ElementTree.fromstring(svg)
    assert (png, svg) == (again, svg_again)
    assert 401 == image.width == int(root.get("width", 0))
    assert pytest.approx(image.height, abs=1) == int(root.get("height", 0))
    assert PALETTES[theme].page == name_of(np.array(image.getpixel((0, 0))) / 255)
    assert arguments["caption"].title == image.info["Title"] == root.findtext(f"{SVG}title")
    assert image.info["Description"] == root.findtext(f"{SVG}desc")
    assert LARGEST[kind] in image.info["Description"]
    assert arguments["caption"].summary in image.info["Description"]


@pytest.mark.parametrize("kind", PICTURE_KINDS)
@pytest.mark.parametrize("width", [320, 400, 800])
def test_words_are_large_enough_and_stay_in_the_picture(kind: PictureKind, width: int) -> None:
    root = ElementTree.fromstring(draw(kind, **arguments_of(kind), width=width, picture_format="svg"))

    found = list(root.iter(f"{SVG}text"))
    for words in found:
        size, text = float(words.get("font-size", 0)), "".join(words.itertext())
        wide = width_of(words[0].tail or "" if len(words) else text, size, bold=words.get("font-weight") == "bold")
        left = float(words.get("x", 0)) - {"middle": wide / 2, "end": wide}.get(words.get("text-anchor", ""), 0)
        assert 11 <= size
        assert left >= 0, text
        assert left + wide <= width, text
    assert len(found) >= 4


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_words_do_not_lie_on_each_other(kind: PictureKind) -> None:
    root = ElementTree.fromstring(draw(kind, **arguments_of(kind), width=400, picture_format="svg"))

    boxes = []
    for words in root.iter(f"{SVG}text"):
        size, text = float(words.get("font-size", 0)), (words[0].tail if len(words) else words.text) or ""
        wide = width_of(text, size, bold=words.get("font-weight") == "bold")
        left = float(words.get("x", 0)) - {"middle": wide / 2, "end": wide}.get(words.get("text-anchor", ""), 0)
        base = float(words.get("y", 0))
        boxes.append((left, left + wide, base - 0.7 * size, base, text))
    overlaps = [
        (a[4], b[4])
        for place, a in enumerate(boxes)
        for b in boxes[place + 1 :]
        if a[0] < b[1] - 0.5 and b[0] < a[1] - 0.5 and a[2] < b[3] and b[2] < a[3]
    ]
    assert [] == overlaps


@pytest.mark.parametrize("kind", PICTURE_KINDS)
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e12])
def test_nothing_tiny_and_huge_attributions_are_drawn(kind: PictureKind, scale: float) -> None:
    picture = draw(kind, **arguments_of(kind, scale), width=400, picture_format="svg")

    assert b"nan" not in picture.lower()
    assert b"inf" not in picture.lower()


@pytest.mark.parametrize("kind", [kind for kind in PICTURE_KINDS if kind not in ("importance", "tree")])
def test_attributions_that_are_no_numbers_are_refused(kind: PictureKind) -> None:
    arguments = arguments_of(kind)
    arguments["attributions"] = arguments["attributions"] * np.nan

    with pytest.raises(NothingToDraw, match="finite"):
        draw(kind, **arguments)


@pytest.mark.parametrize("kind", ["waterfall", "bars"])
@pytest.mark.parametrize("n_features", [1, 1000])
def test_one_feature_and_a_thousand_are_drawn(kind: PictureKind, n_features: int) -> None:
    names = [f"a rather long name of a feature, of which there are many: {i}" for i in range(n_features)]
    attributions = np.linspace(1, 2, n_features)

    svg = draw(
        kind, names=names, values=[12345.678] * n_features, attributions=attributions,
        half_widths=np.zeros(n_features), caption=CAPTION, width=400, picture_format="svg",
    )  # fmt: skip

    shown = [words.text or words[0].tail or "" for words in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert any(text.startswith("a ") and text.endswith("… = 1.235e+04") for text in shown)
    assert (n_features == 1000) == ("986 other features" in shown)


def test_what_was_not_attributed_has_a_bar_of_its_own() -> None:
    caption = Caption("t", "value", "kernel", 0.0, 1.0)

    svg = draw("waterfall", names=["a"], values=[1], attributions=np.array([0.7]), half_widths=np.zeros(1),
               caption=caption, picture_format="svg")  # fmt: skip

    assert "not attributed: +0.300" in ElementTree.fromstring(svg).findtext(f"{SVG}desc", "")


def test_a_segment_has_the_colour_of_its_whole_attribution() -> None:
    segments = np.repeat([[0] * 12 + [1] * 4], 16, axis=0)
    attributions = np.where(segments == 0, 1 / 192, -1 / 64)

    picture = draw("heatmap", image=np.zeros((16, 16, 3)), value_range=(0, 1), attributions=attributions,
                   segments=segments, caption=CAPTION, width=400)  # fmt: skip

    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    found = {name_of(pixels[y, x] / 255) for x in (100, 350) for y in [len(pixels) - 200]}
    assert {PALETTES["light"].towards, PALETTES["light"].against} == found


def test_saliency_has_one_colour_and_no_sign() -> None:
    arguments = arguments_of("heatmap") | {"attributions": np.eye(8), "scale": "magnitude"}

    svg = ElementTree.fromstring(draw("heatmap", **arguments, picture_format="svg"))

    assert "Strongest: 1.00 at line 1, column 1" in svg.findtext(f"{SVG}desc", "")
    assert {"none", "strong"} <= {words.text for words in svg.iter(f"{SVG}text")}


def test_few_far_pixels_of_a_large_image_do_not_stretch_the_colours() -> None:
    attributions = np.full((64, 64), 0.01)
    attributions[0, 0] = 5.0

    svg = draw("heatmap", image=np.zeros((64, 64, 1)), value_range=(0, 1), attributions=attributions, caption=CAPTION,
               picture_format="svg")  # fmt: skip

    shown = {words.text for words in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert {"0.010", "0.005", "0.000"} <= shown


def test_long_texts_are_shown_by_their_strongest_lines() -> None:
    text = "word " * 5000 + "decisive " + "word " * 5000
    spans = [match.span() for match in re.finditer(r"\w+", text)]
    attributions = np.full(len(spans), 1e-6)
    attributions[5000] = 1.0

    svg = draw("tokens", text=text, spans=spans, attributions=attributions, caption=CAPTION, picture_format="svg")

    shown = [
        words.text or (words[0].tail if len(words) else "") or ""
        for words in ElementTree.fromstring(svg).iter(f"{SVG}text")
    ]
    assert "decisive" in shown
    assert any("weaker lines" in words for words in shown)
    assert len(svg) < 500_000


@pytest.mark.parametrize("text", ["$x_1$ and $y", "日本語 \x00\x1b</svg>", "a\r\n\tb", "﷽" * 100])
@pytest.mark.parametrize("picture_format", ["png", "svg"])
def test_any_text_is_drawn_as_it_is(text: str, picture_format: PictureFormat) -> None:
    picture = draw("tokens", text=text, spans=[(0, len(text))], attributions=np.ones(1), caption=CAPTION,
                   width=400, picture_format=picture_format)  # fmt: skip

    assert Image.open(io.BytesIO(picture)).width == 400 if picture_format == "png" else ElementTree.fromstring(picture)


@pytest.mark.parametrize("values", [["red", "blue", None, "red"] * 10, [1, 2, 3, None] * 10, [float("nan"), 1.5] * 20])
def test_dependence_has_a_column_for_words_and_for_missing_values(values: list[Any]) -> None:
    svg = draw("dependence", name="x", values=values, attributions=np.linspace(-1, 1, 40), caption=GLOBAL,
               picture_format="svg")  # fmt: skip

    assert "missing" in {words.text for words in ElementTree.fromstring(svg).iter(f"{SVG}text")}


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_readable_on_the_page_and_bars_stand_out(theme: Theme) -> None:
    palette = PALETTES[theme]

    assert contrast(palette.ink, palette.page) >= 4.5
    assert contrast(palette.quiet, palette.page) >= 4.5
    assert min(contrast(c, palette.page) for c in (palette.towards, palette.against, palette.strength)) >= 3
    assert pytest.approx(21.0) == contrast("#000000", "#ffffff")


@pytest.mark.parametrize("theme", THEMES)
def test_tokens_are_readable_on_every_ground(theme: Theme) -> None:
    grounds = [name_of(ground) for ground in diverging(np.linspace(-1, 1, 101), PALETTES[theme])]

    assert min(contrast(readable_on(ground), ground) for ground in grounds) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("part", [0.25, 0.5, 1.0])
def test_for_and_against_are_told_apart_by_the_colour_blind(theme: Theme, blindness: str, part: float) -> None:
    """0.02 in Oklab is about the least that is seen; the pair differs by several times that."""
    seen = [oklab(simulated(diverging(np.array(sign * part), PALETTES[theme]), blindness)) for sign in (-1, 0, 1)]
    against, page, towards = seen

    assert np.linalg.norm(towards - against) >= 0.20 * part
    assert min(np.linalg.norm(towards - page), np.linalg.norm(against - page)) >= 0.20 * part


@pytest.mark.parametrize("theme", THEMES)
def test_colours_are_symmetric_about_zero(theme: Theme) -> None:
    parts = np.linspace(0, 1, 11)
    palette = PALETTES[theme]

    towards, against = oklab(diverging(parts, palette)), oklab(diverging(-parts, palette))

    assert palette.page == name_of(diverging(np.array(0.0), palette))
    assert pytest.approx(towards[:, 0], abs=0.015) == against[:, 0]
    assert (palette.towards, palette.against) == tuple(name_of(diverging(np.array(end), palette)) for end in (1, -1))
    assert palette.strength == name_of(strength(np.array(1.0), palette))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.25, "0.250"), (-12345.6, "-12,300"), (1.23456e-7, "1.23e-7"), (9.999e12, "1e13"), (0.9999, "1.00")],
)
def test_numbers_have_three_digits(value: float, expected: str) -> None:
    assert expected == number(value)
    assert ("+" if value > 0 else "") + expected == signed(value)


def test_ticks_are_round_and_share_a_factor() -> None:
    tiny, plain_ticks = ticks(-2e-7, 2e-7, 4), ticks(0, 1, 5)

    assert ("−2", "−1", "0", "1", "2") == tiny.labels
    assert " × 10⁻⁷" == tiny.factor
    assert ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0") == plain_ticks.labels


def simulated(colours: Any, blindness: str) -> Any:
    light = np.clip(linear(colours) @ BLINDNESS[blindness].T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def test_a_colour_is_read_as_it_is_written() -> None:
    assert "#1f6fbf" == name_of(colour("#1f6fbf"))
