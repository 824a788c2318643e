"""A small decision tree that says nearly what the network says, and how nearly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.figures import number
from models.rows import ModelInput
from models.signature import Signature

MAX_ROWS = 20_000
MAX_COLUMNS = 10_000
DEPTHS = (1, 2, 3, 4, 5)
MAX_LEAVES = 16
READABILITY = 0.01
"""The fidelity that is given up for a tree with fewer levels."""


def fit_surrogate(
    parts: dict[str, ModelInput], outputs: dict[str, NDArray[Any]], signature: Signature, seed: int
) -> dict[str, Any]:
    """Fits a tree to what the network says of the train rows; validation rows choose its depth, test rows measure it.

    The tree learns the probabilities of all labels, or the value, and reads raw features in their own units.

    Args:
        parts: by "train", "validation" and "test", rows `(n_rows, *input_shape)`.
        outputs: by the same names, `(n_rows, n_targets)` of the network.

    Returns:
        The tree as nested nodes from `root`, with `depth`, `leaves`, and `fidelity`: of the test rows the part on
        which both predict the same label (`accuracy`, beside that of the network's commonest label), and R2 against
        the network's outputs.
    """
    from sklearn.tree import DecisionTreeRegressor

    names = column_names(signature)
    if len(names) > MAX_COLUMNS:
        return {"root": None, "reason": f"{len(names):,} columns: no tree of more than {MAX_COLUMNS:,} is readable"}
    columns = {part: rows.reshape(len(rows), -1) for part, rows in parts.items()}
    learned = np.arange(len(columns["train"]))
    if len(learned) > MAX_ROWS:
        learned = np.sort(np.random.default_rng(seed).choice(len(learned), MAX_ROWS, replace=False))
    fewest = max(2, len(learned) // 100)
    trees, scores = [], []
    for depth in DEPTHS:
        tree = DecisionTreeRegressor(
            max_depth=depth, max_leaf_nodes=MAX_LEAVES, min_samples_leaf=fewest, random_state=seed
        )
        tree.fit(columns["train"][learned], outputs["train"][learned].astype(np.float64))
        trees.append(tree)
        scores.append(_r2(outputs["validation"], _predicted(tree, columns["validation"])))
    best = max(scores)
    place = next(i for i, score in enumerate(scores) if score >= best - READABILITY)
    tree = trees[place]
    said, meant = _predicted(tree, columns["test"]), outputs["test"].astype(np.float64)
    fidelity: dict[str, Any] = {"rows": len(meant), "r2": number(_r2(meant, said))}
    if signature.task == "classification":
        labels = meant.argmax(axis=1)
        fidelity["accuracy"] = float((said.argmax(axis=1) == labels).mean())
        fidelity["accuracy_of_commonest_label"] = float(np.bincount(labels).max() / len(labels))
    return {
        "task": signature.task,
        "target": signature.target,
        "labels": list(signature.labels),
        "depth": int(tree.get_depth()),
        "leaves": int(tree.get_n_leaves()),
        "learned_rows": len(learned),
        "fidelity": fidelity,
        "r2_by_depth": {str(depth): number(score) for depth, score in zip(DEPTHS, scores, strict=True)},
        "root": _node(tree.tree_, 0, names, signature),
    }


def column_names(signature: Signature) -> list[str]:
    """A name for each number of a row: the feature's, or an element's within an image, a series or a text (counted
    from 1)."""
    names = []
    for feature in signature.features:
        if not feature.shape:
            names.append(feature.name)
            continue
        for place in np.ndindex(*feature.shape):
            shown = place[:-1] if feature.shape[-1] == 1 and len(place) > 1 else place
            names.append(f"{feature.name}[{', '.join(str(index + 1) for index in shown)}]")
    return names


def _node(tree: Any, place: int, names: list[str], signature: Signature) -> dict[str, Any]:
    values = tree.value[place][:, 0].tolist()
    node: dict[str, Any] = {"rows": int(tree.n_node_samples[place])}
    if signature.task == "classification":
        node["label"] = signature.labels[int(np.argmax(values))]
        node["probabilities"] = dict(zip(signature.labels, values, strict=True))
    else:
        node["value"] = values[0]
    if tree.children_left[place] == tree.children_right[place]:
        return node
    column, threshold = int(tree.feature[place]), float(tree.threshold[place])
    return node | {
        "feature": names[column],
        "threshold": threshold,
        **_in_its_own_words(column, threshold, signature),
        "missing": "yes" if tree.missing_go_to_left[place] else "no",
        "yes": _node(tree, tree.children_left[place], names, signature),
        "no": _node(tree, tree.children_right[place], names, signature),
    }


def _in_its_own_words(column: int, threshold: float, signature: Signature) -> dict[str, Any]:
    """What a threshold means where the network's input holds codes or days: the categories, or the last day, of
    `yes`."""
    if signature.kind != "columns":
        return {}
    feature = next(
        feature for feature, place in zip(signature.features, signature.places, strict=True) if column < place.stop
    )
    if feature.kind == "categorical" and feature.vocabulary:
        return {"categories": list(feature.vocabulary[: math.floor(threshold) + 1])}
    if feature.kind == "date":
        return {"date": str(np.datetime64(math.floor(threshold), "D"))}
    return {}


def _predicted(tree: Any, columns: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(tree.predict(columns)).reshape(len(columns), -1)


def _r2(truth: NDArray[Any], values: NDArray[np.float64]) -> float:
    """Over all outputs together; a network that always says the same is followed wholly, or not at all."""
    meant = truth.astype(np.float64)
    errors, variance = ((meant - values) ** 2).sum(), ((meant - meant.mean(axis=0)) ** 2).sum()
    if variance > 1e-12 * (meant**2).sum():
        return float(1 - errors / variance)
    return 1.0 if errors <= 1e-12 * max((meant**2).sum(), 1e-300) else 0.0
