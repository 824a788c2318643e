"""Figures for people to judge, with no line: foretelling removals, steadiness, agreement."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from explain.fidelity import agreement, removal, sensitivity
from explain.fidelity.report import Finding, not_run, reported
from explain.fidelity.sample import Sample
from explain.fidelity.subject import Explain
from explain.game import Rows


def mu_fidelity(sample: Sample) -> Finding:
    size = max(sample.n_players // 4, 1)
    correlations = np.array(
        [
            removal.mu_fidelity(attributions, _removals(sample, i, size))
            for i, attributions in enumerate(sample.attributions)
        ]
    )
    words = f"correlation of the attributions of {size} players with what removing them does: 1 is perfect"
    return reported("mu-fidelity", correlations, words, seed=sample.seed)


def infidelity(sample: Sample) -> Finding:
    parts = []
    for i, attributions in enumerate(sample.attributions):
        removals = _removals(sample, i, None)
        nothing = removal.infidelity(np.zeros_like(attributions), removals)
        parts.append(removal.infidelity(attributions, removals) / nothing if nothing > 0 else math.nan)
    words = "mean squared error in foretelling removals, as a part of that of attributions of 0: 0 is perfect"
    return reported("infidelity", np.array(parts), words, seed=sample.seed)


def max_sensitivity(sample: Sample) -> Finding:
    spreads = sensitivity.element_spreads(sample.subject.background)
    if sample.subject.movable is not None:
        spreads = np.where(sample.subject.movable, spreads, 0.0)
    if not spreads.any():
        return not_run("max-sensitivity", "no element of these rows can move a little")
    largest = []
    for i in sample.few:
        target = sample.targets[i]

        def explained(row: Rows, target: int = target) -> NDArray[np.float64]:
            return sample.explain_with(sample.subject, sample.subject.game(row), target).attributions[:, 0]

        largest.append(
            sensitivity.max_sensitivity(
                explained,
                sample.rows[i],
                sample.attributions[i],
                spreads,
                n_perturbations=sample.effort.perturbations,
                seed=sample.seed + i,
            )
        )
    words = f"largest relative change of attributions when a row moves by up to {sensitivity.RADIUS:g} spreads"
    return reported("max-sensitivity", np.array(largest), words, seed=sample.seed)


def background_stability(sample: Sample) -> Finding:
    if len(sample.subject.background.rows) < 2:
        return not_run("background-stability", "a background of one row has no halves")
    parts = agreement.halves(sample.subject.background, seed=sample.seed)
    sides = [
        np.stack(
            [
                sample.explain_with(
                    sample.subject, replace(sample.games[i], background=part), sample.targets[i]
                ).attributions[:, 0]
                for i in sample.some
            ]
        )
        for part in parts
    ]
    return _agreeing(sample, "background-stability", sides[0], sides[1], "two disjoint halves of the background")


def disagreement(sample: Sample, other: Explain | None) -> Finding:
    if other is None:
        return not_run("disagreement", "no other method was given")
    estimates = [other(sample.games[i], (sample.targets[i],), sample.seed) for i in sample.some]
    theirs = np.stack([estimate.attributions[:, 0] for estimate in estimates])
    return _agreeing(
        sample, "disagreement", sample.attributions[: len(theirs)], theirs, f"this method and {estimates[0].method}"
    )


def _removals(sample: Sample, row: int, size: int | None) -> removal.Removals:
    effort = sample.effort
    return removal.draw_removals(
        sample.games[row],
        sample.targets[row],
        n_subsets=effort.subsets,
        seed=sample.seed + row,
        slice_rows=effort.slice_rows,
        size=size,
    )


def _agreeing(
    sample: Sample, check: str, left: NDArray[np.float64], right: NDArray[np.float64], between: str
) -> Finding:
    pairs = [agreement.agreement(one, other) for one, other in zip(left, right, strict=True)]
    features, ranks, signs = (
        float(np.mean([getattr(pair, name) for pair in pairs])) for name in ("features", "ranks", "signs")
    )
    words = f"rank correlation of the attributions between {between}; of the {agreement.TOP} largest, the same "
    words += f"players {features:.2f}, places {ranks:.2f}, players and signs {signs:.2f}"
    return reported(check, np.array([pair.correlation for pair in pairs]), words, seed=sample.seed)
