"""How far two versions agree on the same rows: the same label, or how many spreads apart their values are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.rows import ModelInput
from models.signature import Signature

NEAR_SPREADS = 0.1
"""Values that are no further apart agree."""


class NotComparable(Exception):
    """Predictions of one version say nothing beside those of another; the message says why."""


def adapter(mine: Signature, theirs: Signature) -> Callable[[ModelInput], ModelInput]:
    """Turns rows of the signature `mine` into rows of `theirs`, of which it knows all columns.

    Raises:
        NotComparable: when the targets differ, or `theirs` takes what `mine` does not.
    """
    if (mine.task, mine.target, sorted(mine.labels)) != (theirs.task, theirs.target, sorted(theirs.labels)):
        raise NotComparable(f"the champion predicts {_predicted(mine)}, the challenger {_predicted(theirs)}")
    known, wanted = (dict(zip(s.feature_names, _encodings(s), strict=True)) for s in (mine, theirs))
    if list(known.items()) == list(wanted.items()):
        return lambda rows: rows
    for name, encoding in wanted.items():
        if known.get(name) != encoding:
            raise NotComparable(f"the challenger's feature {name!r} is not one of the champion's")
    # A text takes several columns.
    places = dict(zip(mine.feature_names, mine.places, strict=True))
    columns = np.concatenate([np.arange(places[name].start, places[name].stop) for name in wanted])
    return lambda rows: np.ascontiguousarray(rows[:, columns])


def same_labels(
    mine: NDArray[Any], theirs: NDArray[Any], my_labels: tuple[str, ...], their_labels: tuple[str, ...]
) -> int:
    """Rows for which the most probable label is the same. Outputs are `(n_rows, n_labels)`."""
    place = np.array([my_labels.index(label) for label in their_labels])
    return int((mine.argmax(axis=1) == place[theirs.argmax(axis=1)]).sum())


def distances(mine: NDArray[Any], theirs: NDArray[Any], spread: float) -> NDArray[np.float64]:
    """`(n_rows,)`: how many spreads two values are apart. Outputs are `(n_rows, 1)`."""
    return np.abs(mine[:, 0].astype(np.float64) - theirs[:, 0]) / spread


def _predicted(signature: Signature) -> str:
    return f"{signature.target!r} ({', '.join(signature.labels) or 'a value'})"


def _encodings(signature: Signature) -> list[dict[str, Any]]:
    """What decides how a value becomes numbers: all of a feature but the range that its training data spanned."""
    features = signature.to_json()["features"]
    return [{key: value for key, value in feature.items() if key != "value_range"} for feature in features]
