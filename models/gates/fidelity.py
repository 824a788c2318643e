"""Gate `fidelity`: explanations of the version that can be believed, as far as the checks of `explain` can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.exact import coalition_count
from explain.fidelity.checking import check_fidelity
from explain.fidelity.report import FidelityReport
from explain.fidelity.sample import Effort
from explain.fidelity.subject import Subject
from explain.game import Background, Evaluate, Game
from explain.limits import Limits
from explain.methods import METHODS
from explain.players import feature_players, pixel_players
from explain.running import Work
from explain.text import dropping
from models.gates.gate import Candidate, Verdict
from models.signature import PADDING, Signature
from models.spec.gating import FidelityGate

ROWS, IMAGE_ROWS = 16, 8
"""Test rows that are explained when the gate names no number."""
BUDGET = 16_384
"""Rows put through the network for one explanation, where it samples; every coalition, where that costs no more."""
COLUMNS_BACKGROUND, IMAGE_BACKGROUND = 32, 16
"""Background rows of the checks: what is checked is the explainer, and its work is in proportion to them."""
KERNEL_PLAYERS = 48
"""With more, gradients explain the version where it has any, as `auto` does."""
TOLERANCE = 0.02
SLICE_ROWS = 4096
WINDOWS = 8
"""Of a series, for each channel."""


def judge_fidelity(gate: FidelityGate, candidate: Candidate) -> tuple[Verdict, FidelityReport]:
    """Explains test rows with the method that `auto` would take for such a version, and checks the explanations."""
    seed, signature = candidate.spec.training.seed, candidate.dataset.signature
    rng = np.random.default_rng(seed)
    image = signature.image is not None
    wanted = gate.rows or (IMAGE_ROWS if image else ROWS)
    rows = candidate.test_rows
    if len(rows) > wanted:
        rows = rows[np.sort(rng.choice(len(rows), size=wanted, replace=False))]
    report = check_fidelity(_subject(candidate, rng), rows, effort=_effort(candidate), seed=seed)
    failed = [finding for finding in report.findings if finding.verdict == "fail"]
    words = "; ".join(f"{finding.check}: {finding.words}" for finding in failed)
    verdict: Verdict = {
        "gate": "fidelity",
        "kind": "fidelity",
        "passed": report.passed,
        "value": len(failed),
        "limit": 0,
        "method": report.method,
        "rows": report.n_rows,
        "words": f"checks of explanations that failed: {words}" if failed else "no check of explanations failed",
    }
    return verdict, report


def _subject(candidate: Candidate, rng: np.random.Generator) -> Subject:
    signature = candidate.dataset.signature
    evaluate, background = _against(candidate, rng)
    players = _players(signature)
    method = _method(int(players.max()) + 1, len(background.rows), signature)
    gradient = candidate.gradient() if METHODS[method].needs == "gradient" else None
    limits = Limits(TOLERANCE, BUDGET)

    def explain(game: Game, targets: Sequence[int], seed: int) -> Estimate:
        work = Work(game, tuple(targets), seed, limits, SLICE_ROWS)
        return METHODS[method].run(replace(work, gradient=lambda: gradient) if gradient else work)

    return Subject(evaluate, background, players, explain, gradient is None, TOLERANCE, _movable(signature))


def _against(candidate: Candidate, rng: np.random.Generator) -> tuple[Evaluate, Background]:
    """What rows are explained against: some rows of the version's background; a text against the text of no words, from
    which words that are hidden are left out, as it is when it is served."""
    rows, weights = candidate.background
    kind = candidate.dataset.signature.kind
    if kind == "text":
        evaluate = dropping(candidate.evaluate, PADDING)
        return evaluate, Background.of(np.full_like(rows[:1], PADDING), evaluate)
    most = IMAGE_BACKGROUND if kind == "image" else COLUMNS_BACKGROUND
    if len(rows) > most:
        chosen = np.sort(rng.choice(len(rows), size=most, replace=False, p=weights))
        rows, weights = rows[chosen], np.full(most, 1 / most)
    return candidate.evaluate, Background.of(rows, candidate.evaluate, weights)


def _movable(signature: Signature) -> NDArray[np.bool_]:
    """The elements of a row that are numbers."""
    if signature.kind in ("image", "series"):
        return np.ones(signature.input_shape, np.bool_)
    widths = [feature.width for feature in signature.features]
    return np.repeat([feature.kind == "numeric" for feature in signature.features], widths)


def _players(signature: Signature) -> NDArray[np.intp]:
    """Features; of an image pixels, of a text its words, of a series windows of each channel."""
    match signature.kind:
        case "image":
            return pixel_players(signature.input_shape)
        case "text":
            return feature_players(signature.input_shape[0])
        case "series":
            steps, channels = signature.input_shape
            window = np.arange(steps) // math.ceil(steps / WINDOWS)
            return (window[:, np.newaxis] * channels + np.arange(channels)).astype(np.intp)
        case "columns":
            widths = [feature.width for feature in signature.features]
            return np.repeat(np.arange(len(widths), dtype=np.intp), widths)


def _method(n_players: int, n_background: int, signature: Signature) -> str:
    if coalition_count(n_players) * n_background <= BUDGET:
        return "exact"
    gradients = signature.is_continuous and (signature.kind == "image" or n_players > KERNEL_PLAYERS)
    return "expected-gradients" if gradients else "kernel"


def _effort(candidate: Candidate) -> Effort:
    """Half of what the checks do by default: a gate should cost seconds."""
    if candidate.dataset.signature.image is not None:
        return Effort(subsets=50, orders=5, steps=10, replicates=64, some_rows=4, few_rows=2, perturbations=2)
    return Effort(subsets=100, orders=8, replicates=128, some_rows=6, few_rows=2, perturbations=3, exact_background=16)
