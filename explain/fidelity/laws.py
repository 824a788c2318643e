"""What must hold exactly of right attributions: efficiency, dummy, symmetry, linearity, determinism."""

from __future__ import annotations

import math

import numpy as np

from explain.fidelity import axioms
from explain.fidelity.report import Finding, Verdict, exactly, not_run
from explain.fidelity.sample import ADDING_UP, Sample


def efficiency(sample: Sample) -> Finding:
    if sample.estimand not in ADDING_UP:
        return not_run("efficiency", f"{sample.estimand} does not claim to add up")
    path = sample.estimand == "aumann-shapley"
    tolerance = sample.subject.path_tolerance if path else axioms.EFFICIENCY_TOLERANCE
    done = [
        axioms.efficiency_excess(game, estimate, (target,), tolerance=tolerance)
        for (game, target), estimate in zip(sample.each(), sample.estimates, strict=True)
        if not path or estimate.stop_reason in ("exact", "closed-form", "tolerance")
    ]
    if not done:
        return not_run("efficiency", "no path method reached its tolerance: its residuals say so already")
    return exactly(
        "efficiency",
        max(done),
        f"largest |sum of attributions - (value - base value)|, in units of {tolerance:g} S and float32 rounding",
    )


def dummy(sample: Sample) -> Finding:
    if sample.estimand not in ADDING_UP:
        return not_run("dummy", f"{sample.estimand} does not claim to give unused players nothing")
    probes = [axioms.tied_player_excess]
    if sample.subject.sees_only_game:
        probes.append(axioms.ignored_player_excess)
    excess = max(
        probe(sample.subject.explain, sample.games[i], sample.targets[i], sample.by_size(i)[0], seed=sample.seed)
        for i in sample.few
        for probe in probes
    )
    players = "made equal to the background" + (", or ignored by the model" if len(probes) > 1 else "")
    return exactly("dummy", excess, f"largest attribution of a player {players}, in units of what is allowed")


def symmetry(sample: Sample) -> Finding:
    reason = _no_made_models(sample)
    if reason:
        return not_run("symmetry", reason)
    sizes = np.bincount(sample.subject.players.reshape(-1))
    excesses = []
    for i in sample.few:
        first, *others = sample.by_size(i)
        second = next((player for player in others if sizes[player] == sizes[first]), None)
        if second is not None:
            twins = (first, second)
            excesses.append(
                axioms.symmetry_excess(
                    sample.subject.explain, sample.games[i], sample.targets[i], twins, seed=sample.seed
                )
            )
    if not excesses:
        return not_run("symmetry", "no two players own equally many elements")
    return exactly(
        "symmetry", max(excesses), "largest difference of two players of one part, in units of what is allowed"
    )


def linearity(sample: Sample) -> Finding:
    reason = _no_made_models(sample)
    if reason:
        return not_run("linearity", reason)
    excess = max(
        axioms.linearity_excess(sample.subject.explain, sample.games[i], sample.targets[i], seed=sample.seed)
        for i in sample.few
    )
    return exactly("linearity", excess, "largest |phi(f + 2g + 3) - phi(f) - 2 phi(g)|, in units of what is allowed")


def determinism(sample: Sample) -> Finding:
    difference = max(axioms.difference_of(sample.estimates[i], sample.explain(i)) for i in sample.few)
    verdict: Verdict = "pass" if difference == 0 else "fail"
    words = "largest difference between two runs with one seed"
    if math.isinf(difference):
        words += "; infinite, since they took different numbers of evaluations: let the explainer go by no clock"
    return Finding("determinism", verdict, difference, words, limit=0.0)


def _no_made_models(sample: Sample) -> str | None:
    if sample.estimand not in ADDING_UP:
        return f"{sample.estimand} claims no axioms"
    if not sample.subject.sees_only_game:
        return "the explainer knows the model by more than its outputs, so it cannot be asked about a made one"
    return None
