"""K-fold cross-validation beside the fit of a version: how well fits of this specification do on rows they left out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.checkpoint import digest_of
from models.datasets import Dataset, Split, digests_by
from models.epochs import EpochReport
from models.errors import InvalidDataset
from models.spec import TrainingSpec
from models.training import FittedModel, fit

logger = logging.getLogger("vitrine.trainer")

Metrics = dict[str, float | None]
MeasureFold = Callable[[FittedModel, NDArray[np.int64]], Metrics]
"""From a model and the rows that its fit left out to its metrics on them."""


@dataclass(frozen=True, slots=True)
class Fold:
    """`number` is from 1. `split.test` are the rows left out; the version's own test part is in no fold."""

    number: int
    split: Split


def cut_folds(digests: Sequence[bytes], split: Split, *, n_folds: int, validation: float) -> list[Fold]:
    """Cuts the rows outside the test part into folds, by the SHA-256 of their content, or of their group.

    A row, or group, stays in its fold whatever rows are added. Of the rows outside a fold, the part `validation` says
    when to stop. Other bytes of the digest decide each, so that folds, parts and validation rows are independent.

    Args:
        digests: of each row of the data set, or of its group.

    Raises:
        InvalidDataset: when a fold, or what is left to fit or to validate on, is empty.
    """
    rows = np.sort(np.concatenate([split.train, split.validation]))
    numbers = np.array([_fraction(digests[row], 8) * n_folds for row in rows]).astype(np.int64)
    validates = np.array([_fraction(digests[row], 16) < validation for row in rows], dtype=bool)
    folds = []
    for number in range(n_folds):
        held_out = numbers == number
        parts = [rows[~held_out & ~validates], rows[~held_out & validates], rows[held_out]]
        if min(map(len, parts)) == 0:
            raise InvalidDataset(
                f"Fold {number + 1} of {n_folds} has a part without rows: {len(rows)} rows outside the test part are "
                "too few, or in too few groups. Expected a smaller training.folds."
            )
        folds.append(Fold(number + 1, Split(*parts)))
    return folds


def _fraction(digest: bytes, start: int) -> float:
    return int.from_bytes(digest[start : start + 8], "big") / 2**64


def cross_validate(
    spec: TrainingSpec,
    dataset: Dataset,
    split: Split,
    measure: MeasureFold,
    *,
    report: Callable[[EpochReport], None] = lambda _: None,
    checkpoints: Path | None = None,
    fence: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fits the specification once for each fold, and measures it on the fold.

    Returns:
        `{"folds": n, "mean": {metric: ...}, "deviation": {...}, "per_fold": [{"fold", "rows", "best_epoch", "epochs",
        "metrics"}]}`. The deviation is that of the folds (n - 1 in its denominator). Folds share rows to fit on, so
        that it understates how much a fit on other data would differ (Bengio and Grandvalet 2004).

    A killed attempt is taken up in the fold, and at the epoch, where it was: results of folds that are done lie beside
    their checkpoints.
    """
    folds = cut_folds(
        digests_by(dataset, spec.split.by), split, n_folds=spec.training.folds, validation=spec.split.validation
    )
    identity = digest_of([spec.model_dump(mode="json"), dataset.sha256])
    results = []
    for fold in folds:
        place = checkpoints / f"fold-{fold.number}" if checkpoints else None
        result = _read(place, identity)
        if result is None:
            logger.info("fold %d of %d", fold.number, len(folds))
            fitted = fit(
                spec,
                dataset,
                fold.split,
                report=lambda epoch, fold=fold: report(replace(epoch, fold=fold.number, folds=len(folds))),
                checkpoints=place,
                fence=fence,
            )
            result = {
                "fold": fold.number,
                "rows": len(fold.split.test),
                "best_epoch": fitted.best_epoch,
                "epochs": len(fitted.history["loss"]),
                "metrics": measure(fitted, fold.split.test),
            }
            fence()
            _write(place, identity, result)
        results.append(result)
    return {"folds": len(folds), **dict(_summaries(results)), "per_fold": results}


def _summaries(results: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Metrics]]:
    """Mean and deviation of each metric over the folds in which it is defined; None where it is in fewer than two."""
    held = {
        name: [value for each in results if (value := each["metrics"][name]) is not None]
        for name in results[0]["metrics"]
    }
    yield "mean", {name: float(np.mean(values)) if values else None for name, values in held.items()}
    yield (
        "deviation",
        {name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in held.items()},
    )


def _read(place: Path | None, identity: str) -> dict[str, Any] | None:
    """The result of a fold that an earlier attempt finished; None where there is none for this very fit."""
    if place is None:
        return None
    try:
        held = orjson.loads((place / "result.json").read_bytes())
        return held["result"] if held["identity"] == identity else None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _write(place: Path | None, identity: str, result: dict[str, Any]) -> None:
    if place is None:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        aside = place / "result.writing"
        with aside.open("wb") as file:
            file.write(orjson.dumps({"identity": identity, "result": result}))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(place / "result.json")
    except OSError as error:
        # As with checkpoints: what is lost is time, if this process is killed.
        logger.warning("the result of fold %d could not be stored: %s", result["fold"], error)
