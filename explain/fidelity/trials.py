"""What evidence decides: closeness to the truth, order of players, dependence on the model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from explain.fidelity import axioms, evidence, ordering, randomization, truth
from explain.fidelity.report import Finding, judged, not_run, reported
from explain.fidelity.sample import ADDING_UP, Sample
from explain.fidelity.subject import Subject

COVERAGE = 0.9
"""Of the 95 % intervals over the rows."""
RELATIVE_ERROR = 0.1
UNSTATED_ERROR = 0.5
"""Allowed relative errors, beside stated ones: of explainers that state errors, and of those that do not."""
SHARE_OF_GAIN = 0.5
SALIENCY_SHARE_OF_GAIN = 0.25
"""Of what our own Shapley estimates gain over random and edge orders, the least that an explainer must."""
LIKENESS = 0.95


def exact_error(sample: Sample) -> Finding:
    if sample.estimand != "shapley":
        return not_run("exact-error", f"only Shapley values are enumerated, and this is {sample.estimand}")
    effort = sample.effort
    comparisons = [
        truth.compare_with_exact(
            sample.subject.explain,
            sample.games[i],
            sample.targets[i],
            n_players=effort.exact_players,
            n_background=effort.exact_background,
            seed=sample.seed + i,
            slice_rows=effort.slice_rows,
        )
        for i in range(min(effort.exact_rows, len(sample.rows)))
    ]
    if any(comparison.wrong_though_exact for comparison in comparisons):
        return Finding(
            "exact-error",
            "fail",
            0.0,
            "attributions that state an error of 0 are not the true ones",
            limit=COVERAGE,
        )
    error = float(np.median([comparison.relative_error for comparison in comparisons]))
    covered = np.array([comparison.covered for comparison in comparisons])
    covered = covered[~np.isnan(covered)]
    players = min(sample.n_players, effort.exact_players)
    words = f"share of true values in the stated 95 % intervals, with every coalition of {players} players seen; "
    words += f"the median relative error is {error:.2g}"
    if len(covered) == 0:
        return Finding("exact-error", "reported", math.nan, f"no errors are stated; {words}")
    p_value = evidence.p_of_share_at_least(covered, COVERAGE)
    return judged("exact-error", covered, p_value, words, limit=COVERAGE, seed=sample.seed)


def independent_error(sample: Sample) -> Finding:
    if sample.estimand not in ("shapley", "aumann-shapley"):
        return not_run("independent-error", f"there is no independent estimate of {sample.estimand}")
    if sample.n_players > truth.MAX_PLAYERS:
        return not_run("independent-error", f"more than {truth.MAX_PLAYERS} players")
    if sample.estimand == "shapley":
        references = sample.references
    else:
        references = [
            truth.independent_aumann_shapley(
                game,
                target,
                replicates=sample.effort.replicates * max(sample.n_players, 8),
                seed=sample.seed + i,
                slice_rows=sample.effort.slice_rows,
            )
            for i, (game, target) in enumerate(sample.each())
        ]
    sizes = (sample.attributions**2).sum(axis=1)
    squares = np.array(
        [
            reference.squared_error(attributions)
            for reference, attributions in zip(references, sample.attributions, strict=True)
        ]
    )
    stated = np.array([(estimate.standard_errors**2).sum() for estimate in sample.estimates])
    allowance = np.where(np.isnan(stated), UNSTATED_ERROR, RELATIVE_ERROR)
    allowed = allowance**2 * sizes + 4 * np.nan_to_num(stated) + _rounding(sample)
    # Rows count alike, but for those with next to nothing to attribute, where the noise of our estimate rules.
    p_value = evidence.p_of_mean_at_least((allowed - squares) / (sizes + 0.1 * sample.scales**2), 0.0)
    total = float((sizes / sample.scales**2).sum())
    error = math.sqrt(max(float((squares / sample.scales**2).sum()) / total, 0.0)) if total > 0 else math.nan
    return Finding(
        "independent-error",
        "fail" if p_value < evidence.P_LIMIT else "pass",
        error,
        "relative error of the attributions, from unbiased estimates that share nothing with the explainer",
        p_value=p_value,
        limit=float(allowance.max()),
    )


def order_of_players(sample: Sample) -> list[Finding]:
    """Insertion and deletion: areas, and margins over random orders and edges beside those of our own estimates."""
    reference = None if sample.n_players > truth.MAX_PLAYERS else sample.references
    image = sample.rows.ndim == 4
    kinds: dict[str, list[float]] = {"insertion": [], "deletion": [], "random": [], "edges": [], "ours": []}
    for i, (game, target) in enumerate(sample.each()):
        known = [sample.attributions[i]]
        known += [] if reference is None else [reference[i].mean]
        known += [ordering.edge_attributions(game)] if image else []
        orders = np.concatenate(
            [
                ordering.descending(np.stack(known), seed=sample.seed + i),
                ordering.random_orders(sample.effort.orders, sample.n_players, seed=sample.seed + i),
            ]
        )
        curves = ordering.ordering_curves(
            game, target, orders, slice_rows=sample.effort.slice_rows, steps=sample.effort.steps
        )
        base, gains = game.background.base_values[target], curves.gains / sample.scales[i]
        kinds["insertion"].append(float(curves.insertion_areas[0] - base) / sample.scales[i])
        kinds["deletion"].append(float(curves.deletion_areas[0] - base) / sample.scales[i])
        kinds["random"].append(float(gains[0] - gains[len(known) :].mean()))
        kinds["edges"].append(float(gains[0] - gains[len(known) - 1]) if image else 0.0)
        kinds["ours"].append(float(gains[1] - gains[0]) if reference is not None else math.nan)
    columns = {name: np.array(values) for name, values in kinds.items()}
    findings = [
        reported(
            name,
            columns[name],
            f"mean height of the {name} curve above the base value, in S: {better}",
            seed=sample.seed,
        )
        for name, better in (("insertion", "high is good"), ("deletion", "low is good"))
    ]
    findings.append(_margin(sample, "margin-over-random", columns["random"], columns["ours"], "random orders"))
    if image:
        findings.append(_margin(sample, "margin-over-edges", columns["edges"], columns["ours"], "a Sobel edge map"))
    else:
        findings.append(not_run("margin-over-edges", "only images have edges"))
    return findings


def dependence_on_model(sample: Sample, randomized: Subject | None) -> list[Finding]:
    """Likeness to, and entropy beside, the explanations of a model that has learned nothing."""
    if randomized is None:
        return [not_run(check, "no randomized model was given") for check in ("randomization", "entropy-rise")]
    mine, theirs = _with_randomized(sample, randomized)
    correlation, p_value = randomization.likeness(mine, theirs, seed=sample.seed)
    alike = correlation > LIKENESS and p_value < evidence.P_LIMIT
    likeness = Finding(
        "randomization",
        "fail" if alike else "pass",
        correlation,
        "rank correlation with the explanations of a model with random weights: 1 is blind to the model",
        p_value=p_value,
        limit=LIKENESS,
    )
    rises = randomization.entropy_rises(mine, theirs)
    words = "relative rise of the attributions' entropy when the model is randomized: above 0 is expected"
    return [likeness, reported("entropy-rise", rises, words, seed=sample.seed)]


def _rounding(sample: Sample) -> NDArray[np.float64]:
    errors = [axioms.rounding(game)[target] for game, target in sample.each()]
    return sample.n_players * np.array(errors) ** 2


def _with_randomized(sample: Sample, randomized: Subject) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    theirs = np.stack(
        [
            sample.explain_with(randomized, randomized.game(sample.rows[i]), sample.targets[i]).attributions[:, 0]
            for i in sample.some
        ]
    )
    return sample.attributions[: len(sample.some)], theirs


def _margin(sample: Sample, check: str, margins: NDArray[np.float64], ours: NDArray[np.float64], over: str) -> Finding:
    """Held against a part of what our own estimates gain: where those gain nothing, nothing is asked."""
    words = f"how much insertion - deletion is above that of {over}, in S"
    if np.isnan(ours).any():
        return reported(check, margins, words, seed=sample.seed)
    share = SHARE_OF_GAIN if sample.estimand in ADDING_UP else SALIENCY_SHARE_OF_GAIN
    reached = margins + ours
    p_value = evidence.p_of_mean_at_least(margins - share * reached, 0.0)
    words += f"; our own Shapley estimates reach {reached.mean():.3g}, and {share:g} of that is asked"
    return judged(check, margins, p_value, words, limit=float(share * reached.mean()), seed=sample.seed)
