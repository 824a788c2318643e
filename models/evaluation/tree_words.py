"""A surrogate tree as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One node of a tree that is read from top to bottom.

    Attributes:
        depth: of the node, from 0.
        branch: "yes" or "no", the answer above that leads here; "" at the root.
        words: a condition, or what a leaf says.
    """

    depth: int
    branch: str
    words: str
    rows: int
    is_leaf: bool


def tree_rows(document: dict[str, Any]) -> Iterator[TreeRow]:
    """The nodes of a surrogate, each before its branches, "yes" before "no"."""
    yield from _rows(document["root"], document, 0, "")


def tree_as_text(document: dict[str, Any]) -> str:
    """A surrogate as lines that are indented by their depth."""
    lines = [fidelity_in_words(document), ""]
    for row in tree_rows(document):
        branch = f"{row.branch}: " if row.branch else ""
        ending = f"  [{row.rows:,} row{'s'[: row.rows != 1]}]" if row.is_leaf else "?"
        lines.append(f"{'    ' * row.depth}{branch}{row.words}{ending}")
    return "\n".join(lines) + "\n"


def fidelity_in_words(document: dict[str, Any]) -> str:
    """How nearly the tree says what the network says."""
    fidelity = document["fidelity"]
    words = []
    if "accuracy" in fidelity:
        words.append(
            f"the network's label for {fidelity['accuracy']:.1%} of {fidelity['rows']:,} test rows "
            f"(its commonest label: {fidelity['accuracy_of_commonest_label']:.1%})"
        )
    if fidelity["r2"] is not None:
        words.append(f"R2 {fidelity['r2']:.3f} against its outputs")
    return ", ".join(words)


def _rows(node: dict[str, Any], document: dict[str, Any], depth: int, branch: str) -> Iterator[TreeRow]:
    if "feature" not in node:
        yield TreeRow(depth, branch, _answer(node, document), node["rows"], True)
        return
    yield TreeRow(depth, branch, _condition(node), node["rows"], False)
    for name in ("yes", "no"):
        yield from _rows(node[name], document, depth + 1, name)


def _condition(node: dict[str, Any]) -> str:
    if "categories" in node:
        return f"{node['feature']} is {' or '.join(node['categories'])}"
    return f"{node['feature']} <= {node['date'] if 'date' in node else format(node['threshold'], '.6g')}"


def _answer(node: dict[str, Any], document: dict[str, Any]) -> str:
    if document["task"] == "classification":
        return f"{node['label']} ({node['probabilities'][node['label']]:.2f})"
    return f"{document['target']} {node['value']:.4g}"
