"""A search draws within its space, learns from what it has tried, gives up what falls behind, and finds the best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from models.database import open_database
from models.errors import InvalidSpec, SearchWithoutResult
from models.search.outcome import best_trial, searched
from models.search.study import draw, falls_behind, importances
from models.search.trials import Trial, Trials
from models.search.trying import try_out
from models.spec import TrainingSpec, parse_spec
from models.spec.proposal import proposed
from models.spec.search import whole_keys


def test_images_are_searched_over_networks_and_columns_over_widths() -> None:
    images, columns = spec("digits", {}), spec("iris", {})

    assert "architecture.type" in space(images)
    assert "architecture.type" not in space(columns)
    assert parse_spec(images.model_dump(mode="json")) == images


def test_proposal_sets_what_was_drawn_and_nothing_else() -> None:
    asked = spec("iris", {})

    tried = proposed(asked, {"architecture.depth": 3, "architecture.width": 20, "training.learning_rate": 0.5})

    assert tried.architecture is not None
    assert (20, 20, 20) == tried.architecture.layers
    assert tried.training == asked.training.model_copy(update={"learning_rate": 0.5})
    assert tried.search is None


def test_filters_double_with_depth_and_a_drawn_network_keeps_what_both_know() -> None:
    asked = spec("digits", {})

    deeper = proposed(asked, {"architecture.depth": 3, "architecture.width": 8})
    other = proposed(asked, {"architecture.type": "mlp", "architecture.depth": 2, "architecture.width": 8})

    assert deeper.architecture is not None
    assert other.architecture is not None
    assert (8, 16, 32) == deeper.architecture.layers
    assert ("mlp", (8, 8), "relu") == (
        other.architecture.type,
        other.architecture.layers,
        other.architecture.activation,
    )


@pytest.mark.parametrize(
    ("search", "where", "expected"),
    [
        ({"space": {}}, "#/search/space", "at least one key"),
        ({"metric": "r2"}, "#/search/metric", "one of accuracy"),
        ({"trials": 0}, "#/search/trials", "greater than or equal to 1"),
        ({"space": {"training.rate": {"low": 1, "high": 2}}}, "#/search/space/training.rate", "dotted key"),
        ({"space": {"training": {"choices": [1]}}}, "#/search/space/training", "dotted key"),
        ({"space": {"gates.min": {"choices": [1]}}}, "#/search/space/gates.min", "dotted key"),
        ({"space": {"training.epochs": {"low": 1.5, "high": 2}}}, "#/search/space/training.epochs", "whole numbers"),
        ({"space": {"training.epochs": {"low": 3, "high": 2}}}, "#/search/space/training.epochs", "low <= high"),
        (
            {"space": {"training.learning_rate": {"low": 0, "high": 1}}},
            "#/search/space/training.learning_rate/low",
            "greater than 0",
        ),
        (
            {"space": {"regularization.l2": {"low": 0, "high": 1, "log": True}}},
            "#/search/space/regularization.l2",
            "0 < low",
        ),
        (
            {"space": {"training.optimizer": {"choices": ["adam", "lion"]}}},
            "#/search/space/training.optimizer/choices/1",
            "'adam'",
        ),
        ({"space": {"training.epochs": {"lo": 1, "high": 2}}}, "#/search/space/training.epochs/lo", "one of low, high"),
    ],
)
def test_search_that_cannot_be_made_is_refused_by_name(search: dict[str, Any], where: str, expected: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        spec("iris", search)

    fault = next(fault for fault in refusal.value.faults if fault.pointer == where)
    assert expected in fault.expected


def test_estimator_comes_closer_than_its_random_start() -> None:
    asked = spec("iris", {"space": {"regularization.dropout": {"low": 0, "high": 0.9}}})
    trials: list[Trial] = []

    for number in range(40):
        drawn = draw_next(asked, trials)
        trials.append(trial(number, drawn, value=(drawn["regularization.dropout"] - 0.3) ** 2))

    started, learned = trials[:10], trials[30:]
    assert all(0 <= each.parameters["regularization.dropout"] <= 0.9 for each in trials)
    assert mean_value(learned) < 0.3 * mean_value(started)


def test_same_trials_draw_the_same_and_whole_keys_draw_whole_numbers() -> None:
    asked = spec("iris", {"space": {"training.epochs": {"low": 5, "high": 500, "log": True}}})
    trials = [trial(0, {"training.epochs": 7}, value=1.0)]

    first, second = draw_next(asked, trials), draw_next(asked, trials)

    assert first == second
    assert isinstance(first["training.epochs"], int)


def test_trial_behind_the_median_is_given_up_after_the_warm_up() -> None:
    asked = spec("iris", {})
    others = [trial(n, drawn_of(asked), errors=[1.0 / epoch for epoch in range(1, 21)], value=0.05) for n in range(6)]
    good = trial(6, drawn_of(asked), state="running", errors=[0.5 / epoch for epoch in range(1, 11)])
    bad = trial(6, drawn_of(asked), state="running", errors=[2.0] * 10)
    early = trial(6, drawn_of(asked), state="running", errors=[2.0] * 3)

    behind = [falls_behind(search_of(asked), whole(asked), [*others, each], 6) for each in (good, bad, early)]

    assert [False, True, False] == behind


def test_the_key_that_matters_is_found_and_equal_trials_say_nothing() -> None:
    asked = spec("iris", {})
    trials: list[Trial] = []
    for number in range(30):
        drawn = draw_next(asked, trials)
        trials.append(trial(number, drawn, value=math.log(drawn["training.learning_rate"])))
    alike = [trial(number, drawn_of(asked), value=1.0) for number in range(6)]

    found = importances(search_of(asked), whole(asked), trials, seed=0, maximize=False)

    assert "training.learning_rate" == max(found, key=found.__getitem__)
    assert pytest.approx(1.0) == sum(found.values())
    assert {} == importances(search_of(asked), whole(asked), alike, seed=0, maximize=False)


def test_best_trial_follows_the_direction_of_the_metric_and_ignores_the_pruned() -> None:
    loss, accuracy = spec("iris", {}), spec("iris", {"metric": "accuracy"})
    trials = [
        trial(0, drawn_of(loss), value=0.4),
        trial(1, drawn_of(loss), value=0.2),
        trial(2, drawn_of(loss), state="pruned"),
    ]

    chosen = [best_trial(search_of(each), trials) for each in (loss, accuracy)]

    assert [1, 0] == [each.number for each in chosen if each]
    with pytest.raises(SearchWithoutResult, match="worse than"):
        searched(loss, [trial(0, drawn_of(loss), state="pruned", reason="worse than the others")])


def test_trials_are_fitted_and_a_value_that_diverges_fails_alone(tmp_path: Path) -> None:
    document = {
        "model": "m",
        "dataset": {"builtin": "iris"},
        "architecture": {"type": "mlp", "layers": [4]},
        "regularization": {"dropout": 0.0},
        "training": {"epochs": 3, "optimizer": "sgd"},
        "search": {"trials": 2, "space": {"training.learning_rate": {"choices": [0.01, 1e30]}}},
    }
    asked = parse_spec(document)
    trials = Trials(open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}"), "job")
    for number, rate in enumerate((0.01, 1e30)):
        trials.begin(number, lambda _, rate=rate: {"training.learning_rate": rate})

    states = [try_out(asked, trials, number, checkpoints=tmp_path / str(number)) for number in range(2)]

    assert ["complete", "failed"] == states
    first, second = trials.all()
    assert 3 == len(first.errors)
    assert first.value is not None
    assert first.value == pytest.approx(first.errors[-1], rel=0.05)
    assert "expected a finite number" in (second.reason or "")
    found, account = searched(asked, trials.all())
    assert 0.01 == found.training.learning_rate
    assert [0, 1] == [each["trial"] for each in account["trials"]]


def spec(builtin: str, search: dict[str, Any]) -> TrainingSpec:
    return parse_spec({"model": "m", "dataset": {"builtin": builtin}, "search": search})


def search_of(asked: TrainingSpec) -> Any:
    return asked.search


def space(asked: TrainingSpec) -> dict[str, Any]:
    return search_of(asked).space


def whole(asked: TrainingSpec) -> dict[str, bool]:
    return whole_keys(search_of(asked), asked.model_dump(mode="json"))


def draw_next(asked: TrainingSpec, trials: list[Trial]) -> dict[str, Any]:
    return draw(search_of(asked), whole(asked), trials, seed=0, maximize=False)


def drawn_of(asked: TrainingSpec) -> dict[str, Any]:
    return draw_next(asked, [])


def trial(
    number: int,
    parameters: dict[str, Any],
    *,
    state: Any = "complete",
    errors: list[float] | None = None,
    value: float | None = None,
    reason: str | None = None,
) -> Trial:
    return Trial(number, state, parameters, errors or [], value, None, reason, "2026-11-21T09:00:00.000Z")


def mean_value(trials: list[Trial]) -> float:
    return sum(each.value or 0.0 for each in trials) / len(trials)
