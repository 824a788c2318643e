"""The checks together: right explainers pass, wrong ones fail, and what does not fit is said to be not run."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from small_models import (
    Network,
    by_exact,
    by_expected_gradients,
    by_kernel,
    changed,
    doubled,
    flipped,
    random_parts,
    rows_of,
    shuffled,
    subject_of,
)

from explain.attribution import Estimate
from explain.fidelity.checking import check_fidelity
from explain.fidelity.ordering import edge_attributions
from explain.fidelity.report import FidelityReport
from explain.fidelity.sample import Effort
from explain.fidelity.subject import Explain, Subject
from explain.game import Background, Game
from explain.players import feature_players, pixel_players

LITTLE = Effort(subsets=50, orders=5, replicates=64, perturbations=2, exact_background=8)
CHANGES = (shuffled, flipped, random_parts, doubled)


def report_of(
    network: Network,
    n_features: int,
    explainer: str,
    *,
    seed: int = 0,
    change: Callable[..., np.ndarray] | None = None,
    n_rows: int = 12,
) -> FidelityReport:
    def subject(of: Network) -> Subject:
        by_game: dict[str, Explain] = {"exact": by_exact, "kernel": by_kernel(0.05)}
        explain = by_game.get(explainer) or by_expected_gradients(of, 0.02)
        explain = changed(explain, change) if change else explain
        return subject_of(of.evaluate, explain, n_features, seed=seed, sees_only_game=explainer in by_game)

    randomized = Network(n_features, seed + 500)
    return check_fidelity(
        subject(network), rows_of(n_rows, n_features, seed), randomized=subject(randomized), effort=LITTLE, seed=seed
    )


def failed(report: FidelityReport) -> list[str]:
    return [finding.check for finding in report.findings if finding.verdict == "fail"]


@pytest.mark.parametrize("explainer", ["exact", "kernel", "expected-gradients"])
def test_right_explainers_pass_and_every_check_that_fits_runs(explainer: str) -> None:
    report = report_of(Network(8, 0), 8, explainer)

    not_run = {finding.check for finding in report.findings if finding.verdict == "not-run"}
    made_models = {"symmetry", "linearity", "exact-error"} if explainer == "expected-gradients" else set()
    assert [] == failed(report)
    assert report.passed
    assert {"margin-over-edges", "disagreement"} | made_models == not_run
    assert report.of("mu-fidelity").value > 0.8
    assert report.of("margin-over-random").value > 0.2
    assert report.of("independent-error").value < 0.2
    assert report.of("insertion").value > report.of("deletion").value
    assert report.evaluations > 10_000


@pytest.mark.parametrize("explainer", ["kernel", "expected-gradients"])
@pytest.mark.parametrize("change", CHANGES)
def test_wrong_explainers_fail(explainer: str, change: Callable[..., np.ndarray]) -> None:
    report = report_of(Network(8, 1), 8, explainer, seed=1, change=change)

    assert not report.passed


def test_the_same_arguments_give_the_same_report_to_the_bit() -> None:
    one, other = (report_of(Network(6, 2), 6, "kernel", n_rows=4) for _ in range(2))

    assert one.to_json() == other.to_json()


def test_an_explanation_blind_to_the_model_fails_randomization() -> None:
    def blind(game: Game, attributions: np.ndarray) -> np.ndarray:
        return np.repeat(game.row.astype(np.float64)[:, np.newaxis], attributions.shape[1], axis=1)

    report = report_of(Network(8, 0), 8, "kernel", change=blind)

    assert "fail" == report.of("randomization").verdict
    assert report.of("randomization").value == pytest.approx(1)
    assert report.of("entropy-rise").value == pytest.approx(0)


def test_an_explainer_that_follows_another_seed_each_time_fails_determinism() -> None:
    runs = iter(range(10_000))

    def restless(game: Game, targets: Sequence[int], seed: int) -> Estimate:
        return by_kernel(0.05)(game, targets, seed + next(runs))

    subject = subject_of(Network(9, 0).evaluate, restless, 9, seed=0)
    report = check_fidelity(subject, rows_of(4, 9, 0), effort=LITTLE)

    assert ["determinism"] == failed(report)
    assert 0 < report.of("determinism").value < 1


def test_intervals_that_are_far_too_narrow_fail() -> None:
    def bold(game: Game, targets: Sequence[int], seed: int) -> Estimate:
        estimate = by_kernel(0.2)(game, targets, seed)
        narrow = estimate.half_widths / 20
        return replace(estimate, half_widths=narrow, standard_errors=estimate.standard_errors / 20)

    subject = subject_of(Network(10, 0, strength=3).evaluate, bold, 10, seed=0)
    report = check_fidelity(subject, rows_of(16, 10, 0), effort=replace(LITTLE, exact_background=16))

    assert "fail" == report.of("exact-error").verdict
    assert report.of("exact-error").value < 0.6


def test_saliency_is_asked_for_no_axioms_but_must_order_players() -> None:
    def saliency(change: Callable[..., np.ndarray]) -> Explain:
        nothing = np.full((8, 1), np.nan)
        return changed(by_exact, change, estimand="saliency", half_widths=nothing, standard_errors=nothing)

    network = Network(8, 0)
    right, wrong = (
        check_fidelity(subject_of(network.evaluate, saliency(change), 8, seed=0), rows_of(64, 8, 0), effort=LITTLE)
        for change in (doubled, random_parts)
    )

    assert [] == failed(right)
    assert ["margin-over-random"] == failed(wrong)
    for check in ("efficiency", "dummy", "symmetry", "linearity", "exact-error", "independent-error"):
        assert "not-run" == right.of(check).verdict


def test_an_edge_map_of_an_image_fails_and_right_values_pass() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 5, 1, 1))

    def evaluate(rows: np.ndarray) -> np.ndarray:
        return np.tanh(np.einsum("rhwc,hwco->ro", rows.astype(np.float64), weights) / 4)

    def edges(game: Game, attributions: np.ndarray) -> np.ndarray:
        return np.repeat(edge_attributions(game)[:, np.newaxis], attributions.shape[1], axis=1)

    images = rows_of(8, 25, 0).reshape(8, 5, 5, 1)
    background = Background.of(rows_of(8, 25, 1).reshape(8, 5, 5, 1), evaluate)
    reports = [
        check_fidelity(
            Subject(evaluate, background, pixel_players((5, 5, 1)), explain, sees_only_game=True), images, effort=LITTLE
        )
        for explain in (by_kernel(0.1), changed(by_kernel(0.1), edges, estimand="saliency"))
    ]

    assert [] == failed(reports[0])
    assert reports[0].of("margin-over-edges").value > 0.2
    assert reports[1].of("margin-over-edges").value == pytest.approx(0)
    assert "margin-over-edges" in failed(reports[1])


def test_a_constant_model_and_a_background_of_one_row_are_no_failure() -> None:
    def evaluate(rows: np.ndarray) -> np.ndarray:
        return np.full((len(rows), 2), 0.25, np.float32)

    background = Background.of(np.zeros((1, 4), np.float32), evaluate)
    subject = Subject(evaluate, background, feature_players(4), by_exact, sees_only_game=True)

    report = check_fidelity(subject, rows_of(4, 4, 0), effort=LITTLE)

    assert [] == failed(report)
    assert "not-run" == report.of("background-stability").verdict
    assert math.isnan(report.of("mu-fidelity").value)


def test_a_single_feature_and_a_single_row_are_no_failure() -> None:
    subject = subject_of(lambda rows: 2.0 * rows, by_exact, 1, seed=0)

    report = check_fidelity(subject, rows_of(1, 1, 0), effort=LITTLE)

    assert [] == failed(report)


def test_explanations_that_are_not_numbers_fail() -> None:
    subject = subject_of(Network(5, 0).evaluate, changed(by_exact, lambda _, values: values * np.nan), 5, seed=0)

    report = check_fidelity(subject, rows_of(4, 5, 0), effort=LITTLE)

    assert {"efficiency", "dummy", "symmetry", "linearity", "exact-error", "independent-error"} == set(failed(report))


def test_two_methods_are_compared() -> None:
    network = Network(6, 0)
    subject = subject_of(network.evaluate, by_exact, 6, seed=0)

    report = check_fidelity(subject, rows_of(4, 6, 0), other=by_expected_gradients(network, 0.02), effort=LITTLE)

    finding = report.of("disagreement")
    assert "reported" == finding.verdict
    assert 0.7 < finding.value <= 1
    assert "exact" not in finding.words
    assert "expected-gradients" in finding.words


def test_a_report_is_json_without_nan() -> None:
    report = report_of(Network(5, 0), 5, "exact", n_rows=3)

    document = json.loads(json.dumps(report.to_json(), allow_nan=False))

    assert document["passed"] is True
    assert "exact" == document["method"]
    assert {"check", "verdict", "value", "interval", "p_value", "limit", "words"} == set(document["checks"][0])
    assert [finding.check for finding in report.findings] == [check["check"] for check in document["checks"]]


@pytest.mark.soak
def test_of_a_thousand_right_explainers_fewer_than_one_in_a_hundred_fails() -> None:
    """360 games of three sizes and strengths, each explained in three ways: 1,080 reports."""
    alarms = [
        (seed, n_features, strength, explainer, names)
        for seed in range(40)
        for n_features in (3, 6, 9)
        for strength in (0.3, 1.0, 3.0)
        for explainer in ("exact", "kernel", "expected-gradients")
        if (names := failed(report_of(Network(n_features, seed, strength), n_features, explainer, seed=seed)))
    ]

    assert len(alarms) < 10, alarms


@pytest.mark.soak
@pytest.mark.parametrize("change", CHANGES)
def test_wrong_explainers_fail_whatever_the_seed(change: Callable[..., np.ndarray]) -> None:
    passed = [
        (seed, n_features, explainer)
        for seed in range(20)
        for n_features in (6, 9)
        for explainer in ("kernel", "expected-gradients")
        if report_of(Network(n_features, seed), n_features, explainer, seed=seed, change=change).passed
    ]

    assert [] == passed
