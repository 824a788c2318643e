"""Which checks an explainer must pass, on which rows, and where each one's line is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.fidelity import agreement, axioms, evidence, ordering, randomization, removal, sensitivity, truth
from explain.fidelity.report import FidelityReport, Finding, Verdict
from explain.fidelity.subject import Explain, Subject
from explain.game import Game, Outputs, Rows

ADDING_UP = ("shapley", "owen", "aumann-shapley")
"""Estimands whose attributions add up; saliency claims no axioms, and is asked for none."""
COVERAGE = 0.9
"""Of the 95 % intervals over the rows."""
RELATIVE_ERROR = 0.1
UNSTATED_ERROR = 0.5
"""Allowed relative errors, beside stated ones: of explainers that state errors, and of those that do not."""
SHARE_OF_GAIN = 0.5
SALIENCY_SHARE_OF_GAIN = 0.25
"""Of what our own Shapley estimates gain over random and edge orders, the least that an explainer must."""
LIKENESS = 0.95


@dataclass(frozen=True, slots=True)
class Effort:
    """How much each check does. The defaults take seconds on two cores for small models.

    Attributes:
        subsets: removed sets per row, for MuFidelity and infidelity.
        orders: random orders per row.
        steps: points of an insertion or deletion curve.
        replicates: independent estimates per row.
        some_rows: rows of randomization, background stability and disagreement.
        few_rows: rows of the axioms, of determinism and of max-sensitivity.
        perturbations: of each of those rows.
        exact_players, exact_background, exact_rows: the size of the games compared with every coalition.
        slice_rows: the most rows in one call of the model.
    """

    subsets: int = 200
    orders: int = 10
    steps: int = 16
    replicates: int = 256
    some_rows: int = 8
    few_rows: int = 3
    perturbations: int = 5
    exact_players: int = 10
    exact_background: int = 32
    exact_rows: int = 16
    slice_rows: int = 4096


def check_fidelity(
    subject: Subject,
    rows: Rows,
    *,
    other: Explain | None = None,
    randomized: Subject | None = None,
    effort: Effort | None = None,
    seed: int = 0,
) -> FidelityReport:
    """Checks an explainer of a model on some rows; for each row, its predicted target is explained.

    A check fails only on evidence: where its figures would come about with a probability below 0.001 if explanations
    were right, or where what must hold exactly does not. All is deterministic in the arguments.

    Args:
        subject: the model and its explainer.
        rows: `(n_rows, *row_shape)`; 32 are enough for columns, 8 for images. One row alone is evidence of little.
        other: an independent method on the same model, for disagreement.
        randomized: the same network with `randomized_weights`, and its explainer; the same background rows and players.

    Returns:
        A finding for each check, in a fixed order.
    """
    counted = _Counted(subject.evaluate)
    checked = _Checks(replace(subject, evaluate=counted), rows, effort or Effort(), seed)
    findings = (
        checked.efficiency(),
        checked.dummy(),
        checked.symmetry(),
        checked.linearity(),
        checked.determinism(),
        checked.exact_error(),
        checked.independent_error(),
        *checked.ordering(),
        *checked.randomization(randomized),
        checked.mu_fidelity(),
        checked.infidelity(),
        checked.max_sensitivity(),
        checked.background_stability(),
        checked.disagreement(other),
    )
    first = checked.estimates[0]
    return FidelityReport(first.method, first.estimand, len(rows), seed, counted.rows, findings)


class _Counted:
    """A model that counts the rows it is given."""

    def __init__(self, evaluate: Callable[[Rows], Outputs]) -> None:
        self._evaluate, self.rows = evaluate, 0

    def __call__(self, rows: Rows) -> Outputs:
        self.rows += len(rows)
        return self._evaluate(rows)


class _Checks:
    """The checks of one subject on some rows, with what they share: games, targets, estimates."""

    def __init__(self, subject: Subject, rows: Rows, effort: Effort, seed: int) -> None:
        self.subject, self.effort, self.seed = subject, effort, seed
        self.rows = rows
        self.games = [subject.game(row) for row in rows]
        self.targets = [int(np.argmax(game.value)) for game in self.games]
        self.scales = np.array(
            [game.scales[target] or 1.0 for game, target in zip(self.games, self.targets, strict=True)]
        )
        self.n_players = self.games[0].n_players
        self.some = range(min(effort.some_rows, len(rows)))
        self.few = range(min(effort.few_rows, len(rows)))

    @cached_property
    def estimates(self) -> list[Estimate]:
        return [self._explain(self.subject, game, target) for game, target in self._each()]

    @cached_property
    def attributions(self) -> NDArray[np.float64]:
        """`(n_rows, n_players)`."""
        return np.stack([estimate.attributions[:, 0] for estimate in self.estimates])

    @property
    def estimand(self) -> str:
        return self.estimates[0].estimand

    def efficiency(self) -> Finding:
        if self.estimand not in ADDING_UP:
            return _not_run("efficiency", f"{self.estimand} does not claim to add up")
        path = self.estimand == "aumann-shapley"
        tolerance = self.subject.path_tolerance if path else axioms.EFFICIENCY_TOLERANCE
        done = [
            axioms.efficiency_excess(game, estimate, (target,), tolerance=tolerance)
            for (game, target), estimate in zip(self._each(), self.estimates, strict=True)
            if not path or estimate.stop_reason in ("exact", "closed-form", "tolerance")
        ]
        if not done:
            return _not_run("efficiency", "no path method reached its tolerance: its residuals say so already")
        return _exactly(
            "efficiency",
            max(done),
            f"largest |sum of attributions - (value - base value)|, in units of {tolerance:g} S and float32 rounding",
        )

    def dummy(self) -> Finding:
        if self.estimand not in ADDING_UP:
            return _not_run("dummy", f"{self.estimand} does not claim to give unused players nothing")
        probes = [axioms.tied_player_excess]
        if self.subject.sees_only_game:
            probes.append(axioms.ignored_player_excess)
        excess = max(
            probe(self.subject.explain, self.games[i], self.targets[i], self._by_size(i)[0], seed=self.seed)
            for i in self.few
            for probe in probes
        )
        players = "made equal to the background" + (", or ignored by the model" if len(probes) > 1 else "")
        return _exactly("dummy", excess, f"largest attribution of a player {players}, in units of what is allowed")

    def symmetry(self) -> Finding:
        reason = self._no_made_models()
        if reason:
            return _not_run("symmetry", reason)
        sizes = np.bincount(self.subject.players.reshape(-1))
        excesses = []
        for i in self.few:
            first, *others = self._by_size(i)
            second = next((player for player in others if sizes[player] == sizes[first]), None)
            if second is not None:
                twins = (first, second)
                excesses.append(
                    axioms.symmetry_excess(self.subject.explain, self.games[i], self.targets[i], twins, seed=self.seed)
                )
        if not excesses:
            return _not_run("symmetry", "no two players own equally many elements")
        return _exactly(
            "symmetry", max(excesses), "largest difference of two players of one part, in units of what is allowed"
        )

    def linearity(self) -> Finding:
        reason = self._no_made_models()
        if reason:
            return _not_run("linearity", reason)
        excess = max(
            axioms.linearity_excess(self.subject.explain, self.games[i], self.targets[i], seed=self.seed)
            for i in self.few
        )
        return _exactly(
            "linearity", excess, "largest |phi(f + 2g + 3) - phi(f) - 2 phi(g)|, in units of what is allowed"
        )

    def determinism(self) -> Finding:
        difference = max(
            axioms.difference_of(self.estimates[i], self._explain(self.subject, self.games[i], self.targets[i]))
            for i in self.few
        )
        verdict: Verdict = "pass" if difference == 0 else "fail"
        words = "largest difference between two runs with one seed"
        if math.isinf(difference):
            words += "; infinite, since they took different numbers of evaluations: let the explainer go by no clock"
        return Finding("determinism", verdict, difference, words, limit=0.0)

    def exact_error(self) -> Finding:
        if self.estimand != "shapley":
            return _not_run("exact-error", f"only Shapley values are enumerated, and this is {self.estimand}")
        effort = self.effort
        comparisons = [
            truth.compare_with_exact(
                self.subject.explain,
                self.games[i],
                self.targets[i],
                n_players=effort.exact_players,
                n_background=effort.exact_background,
                seed=self.seed + i,
                slice_rows=effort.slice_rows,
            )
            for i in range(min(effort.exact_rows, len(self.rows)))
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
        players = min(self.n_players, effort.exact_players)
        words = f"share of true values in the stated 95 % intervals, with every coalition of {players} players seen; "
        words += f"the median relative error is {error:.2g}"
        if len(covered) == 0:
            return Finding("exact-error", "reported", math.nan, f"no errors are stated; {words}")
        p_value = evidence.p_of_share_at_least(covered, COVERAGE)
        return self._judged("exact-error", covered, p_value, words, limit=COVERAGE)

    def independent_error(self) -> Finding:
        if self.estimand not in ("shapley", "aumann-shapley"):
            return _not_run("independent-error", f"there is no independent estimate of {self.estimand}")
        if self.n_players > truth.MAX_PLAYERS:
            return _not_run("independent-error", f"more than {truth.MAX_PLAYERS} players")
        if self.estimand == "shapley":
            references = self.references
        else:
            references = [
                truth.independent_aumann_shapley(
                    game,
                    target,
                    replicates=self.effort.replicates * max(self.n_players, 8),
                    seed=self.seed + i,
                    slice_rows=self.effort.slice_rows,
                )
                for i, (game, target) in enumerate(self._each())
            ]
        sizes = (self.attributions**2).sum(axis=1)
        squares = np.array(
            [
                reference.squared_error(attributions)
                for reference, attributions in zip(references, self.attributions, strict=True)
            ]
        )
        stated = np.array([(estimate.standard_errors**2).sum() for estimate in self.estimates])
        allowance = np.where(np.isnan(stated), UNSTATED_ERROR, RELATIVE_ERROR)
        allowed = allowance**2 * sizes + 4 * np.nan_to_num(stated) + self._rounding()
        # Rows count alike, but for those with next to nothing to attribute, where the noise of our estimate rules.
        p_value = evidence.p_of_mean_at_least((allowed - squares) / (sizes + 0.1 * self.scales**2), 0.0)
        total = float((sizes / self.scales**2).sum())
        error = math.sqrt(max(float((squares / self.scales**2).sum()) / total, 0.0)) if total > 0 else math.nan
        return Finding(
            "independent-error",
            "fail" if p_value < evidence.P_LIMIT else "pass",
            error,
            "relative error of the attributions, from unbiased estimates that share nothing with the explainer",
            p_value=p_value,
            limit=float(allowance.max()),
        )

    def ordering(self) -> list[Finding]:
        """Insertion and deletion: areas, and margins over random orders and edges, beside our own estimates' margins."""
        reference = None if self.n_players > truth.MAX_PLAYERS else self.references
        image = self.rows.ndim == 4
        kinds: dict[str, list[float]] = {"insertion": [], "deletion": [], "random": [], "edges": [], "ours": []}
        for i, (game, target) in enumerate(self._each()):
            known = [self.attributions[i]]
            known += [] if reference is None else [reference[i].mean]
            known += [ordering.edge_attributions(game)] if image else []
            orders = np.concatenate(
                [
                    ordering.descending(np.stack(known), seed=self.seed + i),
                    ordering.random_orders(self.effort.orders, self.n_players, seed=self.seed + i),
                ]
            )
            curves = ordering.ordering_curves(
                game, target, orders, slice_rows=self.effort.slice_rows, steps=self.effort.steps
            )
            base, gains = game.background.base_values[target], curves.gains / self.scales[i]
            kinds["insertion"].append(float(curves.insertion_areas[0] - base) / self.scales[i])
            kinds["deletion"].append(float(curves.deletion_areas[0] - base) / self.scales[i])
            kinds["random"].append(float(gains[0] - gains[len(known) :].mean()))
            kinds["edges"].append(float(gains[0] - gains[len(known) - 1]) if image else 0.0)
            kinds["ours"].append(float(gains[1] - gains[0]) if reference is not None else math.nan)
        columns = {name: np.array(values) for name, values in kinds.items()}
        findings = [
            self._reported(name, columns[name], f"mean height of the {name} curve above the base value, in S: {better}")
            for name, better in (("insertion", "high is good"), ("deletion", "low is good"))
        ]
        findings.append(self._margin("margin-over-random", columns["random"], columns["ours"], "random orders"))
        if image:
            findings.append(self._margin("margin-over-edges", columns["edges"], columns["ours"], "a Sobel edge map"))
        else:
            findings.append(_not_run("margin-over-edges", "only images have edges"))
        return findings

    def randomization(self, randomized: Subject | None) -> list[Finding]:
        """Likeness to, and entropy beside, the explanations of a model that has learned nothing."""
        if randomized is None:
            return [_not_run(check, "no randomized model was given") for check in ("randomization", "entropy-rise")]
        mine, theirs = self._with_randomized(randomized)
        correlation, p_value = randomization.likeness(mine, theirs, seed=self.seed)
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
        return [likeness, self._reported("entropy-rise", rises, words)]

    def mu_fidelity(self) -> Finding:
        size = max(self.n_players // 4, 1)
        correlations = np.array(
            [
                removal.mu_fidelity(attributions, self._removals(i, size))
                for i, attributions in enumerate(self.attributions)
            ]
        )
        words = f"correlation of the attributions of {size} players with what removing them does: 1 is perfect"
        return self._reported("mu-fidelity", correlations, words)

    def infidelity(self) -> Finding:
        parts = []
        for i, attributions in enumerate(self.attributions):
            removals = self._removals(i, None)
            nothing = removal.infidelity(np.zeros_like(attributions), removals)
            parts.append(removal.infidelity(attributions, removals) / nothing if nothing > 0 else math.nan)
        words = "mean squared error in foretelling removals, as a part of that of attributions of 0: 0 is perfect"
        return self._reported("infidelity", np.array(parts), words)

    def max_sensitivity(self) -> Finding:
        spreads = sensitivity.element_spreads(self.subject.background)
        largest = []
        for i in self.few:
            target = self.targets[i]

            def explained(row: Rows, target: int = target) -> NDArray[np.float64]:
                return self._explain(self.subject, self.subject.game(row), target).attributions[:, 0]

            largest.append(
                sensitivity.max_sensitivity(
                    explained,
                    self.rows[i],
                    self.attributions[i],
                    spreads,
                    n_perturbations=self.effort.perturbations,
                    seed=self.seed + i,
                )
            )
        words = f"largest relative change of attributions when a row moves by up to {sensitivity.RADIUS:g} spreads"
        return self._reported("max-sensitivity", np.array(largest), words)

    def background_stability(self) -> Finding:
        if len(self.subject.background.rows) < 2:
            return _not_run("background-stability", "a background of one row has no halves")
        parts = agreement.halves(self.subject.background, seed=self.seed)
        sides = [
            np.stack(
                [
                    self._explain(self.subject, replace(self.games[i], background=part), self.targets[i]).attributions[
                        :, 0
                    ]
                    for i in self.some
                ]
            )
            for part in parts
        ]
        return self._agreeing("background-stability", sides[0], sides[1], "two disjoint halves of the background")

    def disagreement(self, other: Explain | None) -> Finding:
        if other is None:
            return _not_run("disagreement", "no other method was given")
        estimates = [other(self.games[i], (self.targets[i],), self.seed) for i in self.some]
        theirs = np.stack([estimate.attributions[:, 0] for estimate in estimates])
        return self._agreeing(
            "disagreement", self.attributions[: len(theirs)], theirs, f"this method and {estimates[0].method}"
        )

    @cached_property
    def references(self) -> list[truth.Independent]:
        """Our own estimates of the Shapley values of each row."""
        return [
            truth.independent_shapley(
                game,
                target,
                replicates=self.effort.replicates,
                seed=self.seed + i,
                slice_rows=self.effort.slice_rows,
            )
            for i, (game, target) in enumerate(self._each())
        ]

    def _each(self) -> list[tuple[Game, int]]:
        return list(zip(self.games, self.targets, strict=True))

    def _explain(self, subject: Subject, game: Game, target: int) -> Estimate:
        return subject.explain(game, (target,), self.seed)

    def _by_size(self, row: int) -> list[int]:
        return np.argsort(-np.abs(self.attributions[row]), kind="stable").tolist()

    def _removals(self, row: int, size: int | None) -> removal.Removals:
        effort = self.effort
        return removal.draw_removals(
            self.games[row],
            self.targets[row],
            n_subsets=effort.subsets,
            seed=self.seed + row,
            slice_rows=effort.slice_rows,
            size=size,
        )

    def _rounding(self) -> NDArray[np.float64]:
        errors = [axioms.rounding(game)[target] for game, target in self._each()]
        return self.n_players * np.array(errors) ** 2

    def _with_randomized(self, randomized: Subject) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        theirs = np.stack(
            [
                self._explain(randomized, randomized.game(self.rows[i]), self.targets[i]).attributions[:, 0]
                for i in self.some
            ]
        )
        return self.attributions[: len(self.some)], theirs

    def _no_made_models(self) -> str | None:
        if self.estimand not in ADDING_UP:
            return f"{self.estimand} claims no axioms"
        if not self.subject.sees_only_game:
            return "the explainer knows the model by more than its outputs, so it cannot be asked about a made one"
        return None

    def _margin(self, check: str, margins: NDArray[np.float64], ours: NDArray[np.float64], over: str) -> Finding:
        """Held against a part of what our own estimates gain: where those gain nothing, nothing is asked."""
        words = f"how much insertion - deletion is above that of {over}, in S"
        if np.isnan(ours).any():
            return self._reported(check, margins, words)
        share = SHARE_OF_GAIN if self.estimand in ADDING_UP else SALIENCY_SHARE_OF_GAIN
        reached = margins + ours
        p_value = evidence.p_of_mean_at_least(margins - share * reached, 0.0)
        words += f"; our own Shapley estimates reach {reached.mean():.3g}, and {share:g} of that is asked"
        return self._judged(check, margins, p_value, words, limit=float(share * reached.mean()))

    def _agreeing(self, check: str, left: NDArray[np.float64], right: NDArray[np.float64], between: str) -> Finding:
        pairs = [agreement.agreement(one, other) for one, other in zip(left, right, strict=True)]
        features, ranks, signs = (
            float(np.mean([getattr(pair, name) for pair in pairs])) for name in ("features", "ranks", "signs")
        )
        words = f"rank correlation of the attributions between {between}; of the {agreement.TOP} largest, the same "
        words += f"players {features:.2f}, places {ranks:.2f}, players and signs {signs:.2f}"
        return self._reported(check, np.array([pair.correlation for pair in pairs]), words)

    def _reported(self, check: str, values: NDArray[np.float64], words: str) -> Finding:
        """The mean over the rows in which the figure has a meaning."""
        known = values[~np.isnan(values)]
        if len(known) == 0:
            return Finding(check, "reported", math.nan, f"{words}; it has no meaning in any of these rows")
        interval = evidence.bootstrap_interval(known, seed=self.seed)
        return Finding(check, "reported", float(known.mean()), words, interval)

    def _judged(self, check: str, values: NDArray[np.float64], p_value: float, words: str, *, limit: float) -> Finding:
        verdict: Verdict = "fail" if p_value < evidence.P_LIMIT else "pass"
        interval = evidence.bootstrap_interval(values, seed=self.seed)
        return Finding(check, verdict, float(values.mean()), words, interval, p_value, limit)


def _exactly(check: str, excess: float, words: str) -> Finding:
    return Finding(check, "pass" if excess <= 1 else "fail", excess, words, limit=1.0)


def _not_run(check: str, reason: str) -> Finding:
    return Finding(check, "not-run", math.nan, f"Not run: {reason}.")
