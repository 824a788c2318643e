"""Gate `not_worse_than_champion`: the version and the champion on the same rows, which neither was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact, open_artifact
from models.datasets import Dataset, Split, split_dataset
from models.encoding.columns import encode_column
from models.errors import CorruptVersion, InvalidDataset
from models.evaluation.names import more_is_better
from models.evaluation.weighted import weighted_metrics
from models.gates.gate import Champion, Outputs, Verdict, outputs_of
from models.public import told
from models.raw import RawColumn
from models.rows import ModelInput
from models.signature import Signature
from models.spec import TrainingSpec, read_spec

GATE = "not_worse_than_champion"
BOOTSTRAPS = 4000
LEAST_ROWS = 10
"""Fewer rows tell two versions apart by chance alone."""
_BLOCK = 500


class NotComparable(Exception):
    """The champion cannot be held against the version; the message says why."""


def judge_champion(
    spec: TrainingSpec, dataset: Dataset, split: Split, outputs: Outputs, champion: Champion | None
) -> Verdict:
    """Compares by a paired bootstrap: both versions are measured on the same redrawn rows (Efron and Tibshirani 1993).

    The gate fails only on evidence. Without a champion, or with one that cannot be compared, there is none: it passes
    and says so in words.

    Args:
        outputs: of the candidate on the rows of the test part.
    """
    gate = spec.gates.not_worse_than_champion
    assert gate is not None
    said: Verdict = {"gate": GATE, "kind": GATE, "champion": champion.version if champion else None}
    said |= {"metric": gate.metric, "margin": gate.margin}
    if champion is None:
        return {**said, **_no_evidence("There is no champion yet.")}
    try:
        artifact = open_artifact(champion.directory)
        common = _common_rows(artifact, dataset, split)
        theirs = _champion_outputs(artifact, dataset, common)
    except (NotComparable, CorruptVersion, InvalidDataset) as reason:
        return {**said, **_no_evidence(f"Not compared with version {champion.version}, the champion: {reason}")}
    mine, truth = outputs[np.isin(split.test, common)], dataset.targets[common]
    return {**said, **_compare(spec, dataset.signature, mine, theirs, truth)}


def _compare(
    spec: TrainingSpec, signature: Signature, mine: Outputs, theirs: Outputs, targets: NDArray[Any]
) -> Verdict:
    """The figures of two versions on the same rows.

    `value` and `limit` are the metric of the version and of the champion; `difference` is how much better the version
    is, with its 95 % interval; `probability` is that of being worse by more than the margin.
    """
    gate = spec.gates.not_worse_than_champion
    assert gate is not None
    sign = 1.0 if more_is_better(gate.metric) else -1.0
    measures = [weighted_metrics(outputs, targets, signature, spec.positive_label) for outputs in (mine, theirs)]
    value, limit = (float(measure(np.ones((1, len(targets))))[gate.metric][0]) for measure in measures)
    if not np.isfinite([value, limit]).all():
        return _no_evidence(f"{gate.metric} is not defined on the {len(targets)} rows that were test rows for both.")
    rng, differences = np.random.default_rng(spec.training.seed), []
    for _ in range(BOOTSTRAPS // _BLOCK):
        weights = rng.multinomial(len(targets), np.full(len(targets), 1 / len(targets)), size=_BLOCK).astype(float)
        redrawn = [measure(weights)[gate.metric] for measure in measures]
        differences.append(sign * (redrawn[0] - redrawn[1]))
    better = np.concatenate(differences)
    # Rows of one label alone, say, have no area under a curve.
    better = better[~np.isnan(better)]
    probability = float(np.mean(better < -gate.margin))
    low, high = np.quantile(better, [0.025, 0.975])
    words = f"worse than the champion by more than {gate.margin:g} with probability {probability:.3g}"
    return {
        "passed": probability < gate.probability,
        "value": value,
        "limit": limit,
        "difference": sign * (value - limit),
        "interval": [float(low), float(high)],
        "probability": probability,
        "probability_limit": gate.probability,
        "rows": len(targets),
        "words": f"{gate.metric} on rows that were test rows for both: {words}.",
    }


def _no_evidence(words: str) -> Verdict:
    return {"passed": True, "value": None, "limit": None, "rows": 0, "words": words}


def _common_rows(artifact: Artifact, dataset: Dataset, split: Split) -> NDArray[np.int64]:
    """The rows of the test part that are test rows by the champion's split too, ascending.

    A part is decided by the content of a row, so that the champion's split can be made of data that it never saw.
    """
    if artifact.card["spec"].get("dataset") is None:
        raise NotComparable("it was imported without a data set: which rows it was tested on is not known.")
    theirs, mine = artifact.signature, dataset.signature
    if (theirs.task, theirs.target, theirs.labels) != (mine.task, mine.target, mine.labels):
        raise NotComparable(
            f"expected its target {mine.target!r} with labels {list(mine.labels)}, found {theirs.target!r} with "
            f"{list(theirs.labels)}."
        )
    columns = [{*signature.feature_names, *signature.ignored} for signature in (theirs, mine)]
    if columns[0] != columns[1]:
        changed = sorted(columns[0] ^ columns[1])
        raise NotComparable(
            f"its data had other columns ({', '.join(map(repr, changed[:5]))}), so that it cannot be told which rows "
            "it was fitted on."
        )
    their_split = read_spec(artifact.card["spec"]).split
    if their_split.by != "row" and their_split.by not in dataset.columns:
        raise NotComparable(f"its rows were split by {their_split.by!r}, which the data does not have.")
    parts = split_dataset(dataset, test=their_split.test, validation=their_split.validation, by=their_split.by)
    common = np.intersect1d(split.test, parts.test)
    if len(common) < LEAST_ROWS:
        raise NotComparable(f"expected at least {LEAST_ROWS} rows that were test rows for both, found {len(common)}.")
    return common


def _champion_outputs(artifact: Artifact, dataset: Dataset, rows: NDArray[np.int64]) -> Outputs:
    inputs = inputs_for(artifact.signature, dataset, rows)
    try:
        return outputs_of(artifact)(inputs)
    except Exception as error:
        # Keras, TensorFlow and ONNX Runtime raise what they like for a model that they cannot run. The candidate is
        # not to blame for it, and the card says what it was.
        raise NotComparable(f"it cannot be run ({told(error)[:200]}).") from error


def inputs_for(theirs: Signature, dataset: Dataset, rows: NDArray[np.int64]) -> ModelInput:
    """Rows as the champion takes them: with its columns, in its order, by its vocabularies.

    Raises:
        NotComparable: when a feature is of another kind or form.
        InvalidDataset: when a category has no place in it.
    """
    mine = dataset.signature
    if _encoding(mine) == _encoding(theirs):
        return dataset.inputs[rows]
    if theirs.kind in ("image", "series"):
        raise NotComparable(f"it takes {theirs.kind} rows of another form.")
    kinds = {feature.name: feature.kind for feature in mine.features}
    encoded = []
    for feature in theirs.features:
        if kinds.get(feature.name, feature.kind) != feature.kind:
            raise NotComparable(f"its feature {feature.name!r} is {feature.kind}, not {kinds[feature.name]}.")
        # From the raw values: its vocabulary is its own.
        codes = encode_column(RawColumn(feature.kind, dataset.columns[feature.name][rows]), feature)
        encoded.append(codes.reshape(len(rows), -1))
    return np.concatenate(encoded, axis=1).astype(np.float32)


def _encoding(signature: Signature) -> list[dict[str, Any]]:
    """What decides how values become numbers: all of a feature but the range that its training data spanned."""
    return [
        {name: value for name, value in feature.items() if name != "value_range"}
        for feature in signature.to_json()["features"]
    ]
