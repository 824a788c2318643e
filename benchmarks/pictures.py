"""Draws the pictures of docs/explanations.md anew: `python -m benchmarks.pictures`.

No network, no Keras: linear models of scikit-learn on its bundled data, whose Shapley values have a closed form
(coefficient x distance from the mean).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import slic
from sklearn.datasets import load_sample_image
from sklearn.linear_model import LogisticRegression, RidgeCV

from explain.caption import Caption, GlobalCaption
from explain.pictures.draw import draw
from models.builtins import load_bunch

PLACE = Path("docs/pictures")
METHOD = "closed form of a linear model"


def main() -> None:
    PLACE.mkdir(exist_ok=True)
    _digits()
    _columns()
    _segments()
    _text()
    _series()
    print(f"{sum(file.stat().st_size for file in PLACE.iterdir()) / 1e6:.2f} MB in {PLACE}")


def _digits() -> None:
    digits = load_bunch("digits")
    pixels = digits.data
    model = LogisticRegression(max_iter=5000, C=0.001).fit(pixels, digits.target == 8)
    row = 8
    shares = (model.coef_[0] * (pixels[row] - pixels.mean(axis=0))).reshape(8, 8)
    base = float(model.decision_function(pixels.mean(axis=0)[None])[0])
    caption = Caption("digits: an 8", "log-odds of 8", METHOD, base, base + float(shares.sum()))
    arguments = {"image": digits.images[row][..., None], "value_range": (0, 16), "attributions": shares}
    _write("heatmap", "heatmap.png", **arguments, caption=caption)


def _columns() -> None:
    data = load_bunch("diabetes")
    columns, names = data.data, list(data.feature_names)
    model = RidgeCV().fit(columns, data.target)
    coefficients: NDArray[np.float64] = np.asarray(model.coef_)
    shares = coefficients * (columns - columns.mean(axis=0))
    base, values = float(data.target.mean()), model.predict(columns)
    # The error of a mean over a background of 100 rows, as a sampled explanation would have it.
    errors = 1.96 * np.abs(coefficients) * columns.std(axis=0) / 10
    row = 2
    caption = Caption(f"diabetes: progression {values[row]:.1f}", "progression", METHOD, base, float(values[row]))
    one = {"names": names, "values": columns[row].tolist(), "attributions": shares[row], "half_widths": errors}
    _write("waterfall", "waterfall.svg", **one, caption=caption)
    _write("bars", "bars.svg", **one, caption=caption, theme="dark")

    cancer = load_bunch("breast_cancer")
    scaled = (cancer.data - cancer.data.mean(axis=0)) / cancer.data.std(axis=0)
    log_odds = LogisticRegression(C=0.01).fit(scaled, cancer.target)
    shares = log_odds.coef_[0] * scaled
    names = cancer.feature_names.tolist()
    caption = GlobalCaption("breast cancer", "log-odds of benign", METHOD, len(shares))
    _write("beeswarm", "beeswarm.png", names=names, values=cancer.data.T.tolist(), attributions=shares, caption=caption)
    means = np.abs(shares).mean(axis=0)
    reach = 1.96 * np.abs(shares).std(axis=0) / np.sqrt(len(shares))
    intervals = np.column_stack([means - reach, means + reach])
    _write("importance", "importance.svg", names=names, means=means, intervals=intervals, caption=caption)

    # Where two features act together a linear model shows nothing: radius x concavity does.
    radius, concavity = scaled[:, 0], scaled[:, 7]
    both = 0.5 * radius * concavity
    together = -(0.4 * radius + both - both.mean())
    caption = GlobalCaption("breast cancer, with an interaction", "log-odds of benign", METHOD, len(together))
    coloured_by = ("mean concave points", cancer.data[:, 7].tolist())
    _write(
        "dependence", "dependence.png", name="mean radius", values=cancer.data[:, 0].tolist(), attributions=together,
        caption=caption, coloured_by=coloured_by,
    )  # fmt: skip


def _segments() -> None:
    image = np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((224, 224)))
    segments = slic(image, 40, start_label=0)
    # A model that says how orange an image is: the mean of red minus blue.
    orange = (image[..., 0].astype(float) - image[..., 2]) / 255
    shares = orange / orange.size  # against a grey image
    sums, sizes = np.bincount(segments.ravel(), weights=shares.ravel()), np.bincount(segments.ravel())
    base, value = 0.0, float(shares.sum())
    caption = Caption("flower: how orange it is", "orange", "partition of a linear model", base, value)
    _write(
        "heatmap", "segments.png", image=image, value_range=(0, 255), attributions=(sums / sizes)[segments],
        segments=segments, caption=caption, theme="dark",
    )  # fmt: skip


def _text() -> None:
    text = "Not a bad film at all: the plot is thin, but the acting is superb and the photography gorgeous."
    weights = {"Not": 0.9, "bad": -0.8, "thin": -0.7, "superb": 1.4, "gorgeous": 1.1, "but": 0.15, "plot": -0.1}
    spans = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    shares = np.array([weights.get(text[start:end], 0.0) for start, end in spans])
    caption = Caption("a bag of words: positive", "log-odds of positive", METHOD, 0.0, float(shares.sum()))
    _write("tokens", "tokens.svg", text=text, spans=spans, attributions=shares, caption=caption)


def _series() -> None:
    n_steps = 240
    rng = np.random.default_rng(0)
    time = np.arange(n_steps)
    steps = np.column_stack(
        [np.sin(time / 9), np.cumsum(rng.normal(size=n_steps)) / 8, (time % 60 < 6) + 0.05 * rng.normal(size=n_steps)]
    )
    windows = [(start, start + 12) for start in range(0, n_steps, 12)]
    weights = np.column_stack([np.linspace(0, 1, n_steps), np.full(n_steps, -0.4), np.linspace(0, 2, n_steps)]) / 50
    shares = np.array([(weights * (steps - steps.mean(axis=0)))[start:end].sum(axis=0) for start, end in windows])
    caption = Caption("a weighted sum of sensors", "load", METHOD, 0.0, float(shares.sum()))
    channels = ["vibration", "temperature", "valve"]
    _write(
        "series", "series.svg", steps=steps, channels=channels, windows=windows, attributions=shares, caption=caption
    )


def _write(kind: str, file: str, **arguments: object) -> None:
    picture_format = file.rpartition(".")[2]
    (PLACE / file).write_bytes(draw(kind, picture_format=picture_format, **arguments))  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
