"""Data sets that the examples in docs/training.md are trained on: made by stated rules, or of scikit-learn's digits."""

from __future__ import annotations

import csv
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

ORDERS, REVIEWS = 5_000, 4_000
CITIES = {"lima": -0.5, "oslo": 1.0, "paris": -1.0, "rome": 0.0, "": 0.5}
"""What each adds to the log-odds of a return; "" is an unknown one."""
PLAIN = ("the", "box", "came", "on", "a", "monday", "with", "my", "order", "and", "its", "lid", "was", "blue")
FRIENDLY, UNFRIENDLY = ("great", "happy", "quick", "perfect"), ("broken", "late", "angry", "refund")
NEGATION = "not"


def write_orders(path: Path, n_rows: int = ORDERS, seed: int = 0) -> None:
    """Orders of a shop as a CSV file, of which about one in seven is returned.

    The log-odds of a return: -3.4 + (age - 40) / 10 + the effect of the city + 2 for a gift + 1.5 on a weekend
    + 0.02 x (price - 40) where it is no gift + 1.5 x the unfriendly words of the note less the friendly ones. A tenth
    of the ages, of the cities and of the notes are missing; a missing age or note adds nothing.
    """
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 12, n_rows).round()
    city = rng.choice(list(CITIES), n_rows, p=[0.2, 0.2, 0.2, 0.3, 0.1])
    gift = rng.random(n_rows) < 0.2
    price = rng.lognormal(3.5, 0.5, n_rows).round(2)
    ordered = np.datetime64("2024-01-01") + rng.integers(0, 700, n_rows)
    unknown = rng.random(n_rows) < 0.1
    notes = ["" if rng.random() < 0.1 else _words(rng, rng.choice(3, p=[0.5, 0.4, 0.1])) for _ in range(n_rows)]
    # 1970-01-01 was a Thursday.
    weekend = (ordered.astype(int) + 3) % 7 >= 5
    log_odds = (
        -3.4
        + np.where(unknown, 0, (age - 40) / 10)
        + np.array([CITIES[name] for name in city])
        + 2 * gift
        + 1.5 * weekend
        + np.where(gift, 0, 0.02 * (price - 40))
        - 1.5 * np.array([tone(note) for note in notes])
    )
    returned = rng.random(n_rows) < 1 / (1 + np.exp(-log_odds))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "city", "gift", "price", "ordered", "note", "returned"])
        for i in range(n_rows):
            writer.writerow(
                [
                    "" if unknown[i] else int(age[i]),
                    city[i],
                    "true" if gift[i] else "false",
                    price[i],
                    ordered[i],
                    notes[i],
                    "yes" if returned[i] else "no",
                ]
            )


def write_reviews(path: Path, n_rows: int = REVIEWS, seed: int = 0) -> None:
    """Reviews as a CSV file: plain words, and one to three that say how it was; `not` in front of one turns it round.

    The log-odds of a good one: 3 x (friendly words - unfriendly ones).
    """
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "verdict"])
        for _ in range(n_rows):
            review = _words(rng, int(rng.integers(1, 4)), negated=0.3)
            good = rng.random() < 1 / (1 + np.exp(-3 * tone(review)))
            writer.writerow([review, "good" if good else "bad"])


def write_digit_images(path: Path) -> None:
    """scikit-learn's digits as a ZIP of 8 x 8 grey PNG files, in a folder for each label."""
    from PIL import Image

    bunch = _digits()
    with zipfile.ZipFile(path, "w") as archive:
        for i, (pixels, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
            content = BytesIO()
            Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(content, "PNG")
            archive.writestr(f"{label}/{i}.png", content.getvalue())


def write_digit_series(path: Path) -> None:
    """scikit-learn's digits read row by row: eight steps of eight channels, as an NPZ file."""
    bunch = _digits()
    np.savez(path, allow_pickle=False, X=bunch.images.astype(np.float32), y=bunch.target.astype(str))


FILES = {
    "orders.csv": write_orders,
    "reviews.csv": write_reviews,
    "digits.zip": write_digit_images,
    "digit-rows.npz": write_digit_series,
}
"""The files that the examples name, and what writes each."""


def tone(text: str) -> int:
    """Friendly words less unfriendly ones; one behind `not` counts as its opposite."""
    words = text.lower().rstrip(".").split()
    before = ["", *words]
    return sum(
        ((word in FRIENDLY) - (word in UNFRIENDLY)) * (-1 if earlier == NEGATION else 1)
        for word, earlier in zip(words, before, strict=False)
    )


def _words(rng: np.random.Generator, n_telling: int, negated: float = 0.0) -> str:
    """A sentence of plain words among which some are telling, a part of them behind `not`."""
    words = [[str(word)] for word in rng.choice(PLAIN, rng.integers(4, 10))]
    for _ in range(n_telling):
        telling = str(rng.choice([*FRIENDLY, *UNFRIENDLY]))
        group = [NEGATION, telling] if rng.random() < negated else [telling]
        words.insert(int(rng.integers(len(words) + 1)), group)
    return " ".join(word for group in words for word in group).capitalize() + "."


def _digits() -> Any:
    from sklearn.datasets import load_digits

    return load_digits()
