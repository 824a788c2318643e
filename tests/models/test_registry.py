"""The registry: numbers, aliases and their history."""

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from registered import move, register

from models.attempts import Attempts
from models.errors import ComparisonOutdated, GatesFailed, NothingToRollBackTo, Overtaken, UnknownModel, UnknownVersion
from models.registry import AliasMove, Registry, moves_table

PASSED = {"gate": "accuracy", "passed": True, "value": 0.97, "limit": 0.9}
FAILED = {"gate": "f1", "passed": False, "value": 0.5, "limit": 0.9}


@pytest.fixture
def registry(engine: sa.Engine) -> Registry:
    return Registry(engine)


def test_numbers_rise_for_each_model_on_its_own(registry: Registry) -> None:
    numbers = [register(registry, job, model) for job, model in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")]]

    assert [1, 2, 1, 3] == numbers


def test_same_job_registers_once(registry: Registry) -> None:
    first = register(registry, "job-1")
    register(registry, "job-2")

    again = register(registry, "job-1")

    assert first == again
    assert [1, 2] == [record.version for record in registry.model("m").versions]


def test_version_is_found_by_number_and_by_alias(registry: Registry) -> None:
    register(registry, "job-1")
    register(registry, "job-2", gates=[PASSED])
    move(registry, "champion", "2")

    by_number, by_alias = registry.model("m").resolve("2"), registry.model("m").resolve("champion")

    assert by_number == by_alias
    assert ("m", 2, "job-2", "/versions/m/job-2", "regression", [PASSED]) == (
        by_number.model,
        by_number.version,
        by_number.job,
        by_number.directory,
        by_number.task,
        by_number.gates,
    )


def test_registry_survives_being_opened_again(registry: Registry, engine: sa.Engine) -> None:
    register(registry, "job-1")
    move(registry, "champion", "1")

    reopened = Registry(engine)

    assert registry.models() == reopened.models()
    assert {"champion": 1} == reopened.model("m").aliases


def test_alias_moves_say_what_they_moved_from(registry: Registry) -> None:
    for job in ("1", "2"):
        register(registry, job)

    moves = [move(registry, "champion", "1"), move(registry, "champion", "2"), move(registry, "challenger", "champion")]

    assert moves == [
        AliasMove("champion", 1, None),
        AliasMove("champion", 2, 1),
        AliasMove("challenger", 2, None),
    ]
    assert {"champion": 2, "challenger": 2} == registry.model("m").aliases


def test_every_move_is_kept_with_who_and_why(registry: Registry, engine: sa.Engine) -> None:
    register(registry, "1")
    register(registry, "2", gates=[FAILED])
    registry.move_alias("m", "champion", "1", by="anna", reason="first")
    registry.move_alias("m", "champion", "2", by="ben", reason="urgent", force=True)
    registry.rollback("m", by="carl", reason="worse")

    assert [
        ("champion", None, 1, "anna", "first", False),
        ("champion", 1, 2, "ben", "urgent", True),
        ("champion", 2, 1, "carl", "worse", False),
    ] == history(engine)


def test_moving_an_alias_to_where_it_points_is_no_move(registry: Registry, engine: sa.Engine) -> None:
    register(registry, "1")
    move(registry, "champion", "1")

    again = move(registry, "champion", "1")

    assert AliasMove("champion", 1, 1) == again
    assert 1 == len(history(engine))


def test_alias_does_not_move_to_a_version_whose_gates_failed(registry: Registry, engine: sa.Engine) -> None:
    register(registry, "1", gates=[PASSED, FAILED])

    with pytest.raises(GatesFailed, match="failed these gates: f1") as refusal:
        move(registry, "champion", "1")

    assert "accuracy" not in str(refusal.value)
    assert {} == registry.model("m").aliases
    assert [] == history(engine)


def test_alias_moves_by_force_to_a_version_whose_gates_failed(registry: Registry) -> None:
    register(registry, "1", gates=[FAILED])

    registry.move_alias("m", "champion", "1", by="anna", reason="urgent", force=True)

    assert {"champion": 1} == registry.model("m").aliases


def test_rollbacks_go_back_one_after_the_other_until_nothing_is_left(registry: Registry) -> None:
    for job in ("1", "2", "3"):
        move(registry, "champion", str(register(registry, job)))

    moves = [registry.rollback("m", by="anna", reason=""), registry.rollback("m", by="anna", reason="")]

    assert [AliasMove("champion", 2, 3), AliasMove("champion", 1, 2)] == moves
    assert {"champion": 1} == registry.model("m").aliases
    with pytest.raises(NothingToRollBackTo, match="'champion' of 'm'"):
        registry.rollback("m", by="anna", reason="")


def test_rollback_after_a_new_promotion_goes_back_to_what_was_there(registry: Registry) -> None:
    for job in ("1", "2", "3", "4"):
        register(registry, job)
    for version in ("1", "2", "3"):
        move(registry, "champion", version)
    registry.rollback("m", by="anna", reason="")
    move(registry, "champion", "4")

    moved_to = [registry.rollback("m", by="anna", reason="").version for _ in range(2)]

    assert [2, 1] == moved_to


def test_rollback_of_one_alias_leaves_the_others(registry: Registry) -> None:
    for job in ("1", "2"):
        version = str(register(registry, job))
        move(registry, "champion", version)
        move(registry, "challenger", version)

    registry.rollback("m", by="anna", reason="", alias="challenger")

    assert {"champion": 2, "challenger": 1} == registry.model("m").aliases


@pytest.mark.parametrize("alias", ["champion", "never-set"])
def test_rollback_of_an_alias_that_never_moved_is_refused(registry: Registry, alias: str) -> None:
    register(registry, "1")
    move(registry, "champion", "1")

    with pytest.raises(NothingToRollBackTo):
        registry.rollback("m", by="anna", reason="", alias=alias)


def test_unknown_model_is_answered_with_the_ones_that_exist(registry: Registry) -> None:
    register(registry, "1", "digits")
    register(registry, "2", "diabetes")

    with pytest.raises(UnknownModel, match="Models: diabetes, digits") as refusal:
        registry.model("digit")
    with pytest.raises(UnknownModel):
        registry.rollback("digit", by="anna", reason="")

    assert ("diabetes", "digits") == refusal.value.names


def test_unknown_model_of_an_empty_registry_is_answered_with_none_yet(registry: Registry) -> None:
    with pytest.raises(UnknownModel, match="none yet"):
        registry.model("digits")


@pytest.mark.parametrize("version", ["3", "0", "-1", "1.0", "challenger", "", "²", "１"])
def test_unknown_version_is_answered_with_the_ones_that_exist(registry: Registry, version: str) -> None:
    for job in ("1", "2"):
        register(registry, job)
    move(registry, "champion", "2")

    with pytest.raises(UnknownVersion, match="It has: 1, 2, champion") as refusal:
        registry.model("m").resolve(version)
    with pytest.raises(UnknownVersion):
        move(registry, "champion", version)

    assert ("1", "2", "champion") == refusal.value.names


def test_versions_registered_at_once_get_numbers_of_their_own(registry: Registry) -> None:
    numbers: list[int] = []
    start = threading.Barrier(4)

    def register_some(worker: int) -> None:
        start.wait()
        numbers.extend(register(registry, f"{worker}-{job}") for job in range(10))

    run_at_once(register_some, 4)

    assert list(range(1, 41)) == sorted(numbers)


def test_job_registered_at_once_by_two_workers_is_one_version(registry: Registry) -> None:
    numbers: list[int] = []
    start = threading.Barrier(2)

    def register_all(_worker: int) -> None:
        start.wait()
        numbers.extend(register(registry, str(job)) for job in range(20))

    run_at_once(register_all, 2)

    assert sorted([*range(1, 21), *range(1, 21)]) == sorted(numbers)


def test_alias_moved_at_once_from_two_threads_keeps_an_unbroken_history(registry: Registry, engine: sa.Engine) -> None:
    for job in ("1", "2", "3"):
        register(registry, job)
    start = threading.Barrier(2)

    def move_often(worker: int) -> None:
        start.wait()
        for turn in range(10):
            move(registry, "champion", str(1 + (worker + turn) % 3))

    run_at_once(move_often, 2)

    moves = history(engine)
    assert [None, *(version for _, _, version, *_ in moves[:-1])] == [previous for _, previous, *_ in moves]
    assert {"champion": moves[-1][2]} == registry.model("m").aliases


def history(engine: sa.Engine) -> list[tuple[Any, ...]]:
    columns = moves_table.c
    chosen = sa.select(
        columns.alias, columns.previous, columns.version, columns.moved_by, columns.reason, columns.forced
    )
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(chosen.order_by(columns.id))]


def run_at_once(work: Any, n_threads: int) -> None:
    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_job_whose_gates_passed_makes_its_version_champion_once(registry: Registry, engine: sa.Engine) -> None:
    version = register(registry, "job-1", gates=[PASSED])

    first = registry.promote(model="m", version=version, job="job-1")
    registry.move_alias("m", "champion", str(register(registry, "job-2")), by="anna", reason="newer")
    again = registry.promote(model="m", version=version, job="job-1")

    assert (True, True) == (first, again)
    assert {"champion": 2} == registry.model("m").aliases
    assert [("job job-1", "gates passed"), ("anna", "newer")] == [(by, why) for *_, by, why, _ in history(engine)]


def test_a_job_whose_gates_failed_moves_nothing_and_the_decision_says_why(registry: Registry) -> None:
    version = register(registry, "job-1", gates=[PASSED, FAILED])

    promoted = registry.promote(model="m", version=version, job="job-1")

    (decision,) = registry.decisions("m", version)
    assert promoted is False
    assert {} == registry.model("m").aliases
    assert (False, "failed: f1", "job job-1") == (decision["moved"], decision["reason"], decision["decided_by"])
    assert [PASSED, FAILED] == decision["gates"]


def test_a_refused_and_a_forced_move_are_both_recorded_with_the_gates(registry: Registry) -> None:
    register(registry, "job-1", gates=[FAILED])

    with pytest.raises(GatesFailed):
        move(registry, "champion", "1")
    registry.move_alias("m", "champion", "1", by="anna", reason="needed today", force=True)

    decisions = registry.decisions("m", 1)
    assert [(False, False, ""), (True, True, "needed today")] == [
        (d["moved"], d["forced"], d["reason"]) for d in decisions
    ]
    assert [[FAILED], [FAILED]] == [decision["gates"] for decision in decisions]


def test_an_overtaken_attempt_neither_registers_nor_promotes(registry: Registry, engine: sa.Engine) -> None:
    attempts = Attempts(engine)
    first, second = attempts.begin("job-1", "worker-1"), attempts.begin("job-1", "worker-2")

    with pytest.raises(Overtaken, match="Attempt 1 of job job-1 has been overtaken by attempt 2"):
        register(registry, "job-1", attempt=first)
    version = register(registry, "job-1", attempt=second)
    with pytest.raises(Overtaken):
        registry.promote(model="m", version=version, job="job-1", attempt=first)

    assert {} == registry.model("m").aliases
    assert registry.promote(model="m", version=version, job="job-1", attempt=second)
    latest = attempts.latest(["job-1", "job-2"])
    assert {"job-1": (2, "worker-2")} == {job: (found.number, found.worker) for job, found in latest.items()}


def test_rollback_undoes_a_move_back_to_an_earlier_version(registry: Registry) -> None:
    for i in (1, 2):
        registry.register(model="m", job=f"job-{i}", directory=f"/v/{i}", task="regression", gates=[])
    for version in ("1", "2", "1"):
        registry.move_alias("m", "champion", version, by="anna", reason="")

    move = registry.rollback("m", by="anna", reason="")

    assert (1, 2) == (move.previous, move.version)


def compared_with(champion: int | None, *, passed: bool = True) -> dict[str, Any]:
    return {"gate": "not_worse_than_champion", "passed": passed, "champion": champion}


def test_a_version_compared_with_a_former_champion_is_not_decided_but_judged_again(registry: Registry) -> None:
    for job in ("job-1", "job-2"):
        register(registry, job)
    move(registry, "champion", "2")
    version = register(registry, "job-3", gates=[compared_with(1)])

    first = registry.promote(model="m", version=version, job="job-3", gates=[compared_with(1)])
    undecided = registry.decisions("m", version)
    second = registry.promote(model="m", version=version, job="job-3", gates=[compared_with(2)])

    assert (None, []) == (first, undecided)
    assert second is True
    assert {"champion": 3} == registry.model("m").aliases
    assert [compared_with(2)] == registry.model("m").resolve("3").gates
    assert [[compared_with(2)]] == [decision["gates"] for decision in registry.decisions("m", version)]


def test_when_the_champion_moves_again_and_again_it_is_decided_against_the_version(registry: Registry) -> None:
    register(registry, "job-1")
    move(registry, "champion", "1")
    version = register(registry, "job-2", gates=[compared_with(None)])

    promoted = registry.promote(model="m", version=version, job="job-2", gates=[compared_with(None)], final=True)

    (decision,) = registry.decisions("m", version)
    assert promoted is False
    assert (False, "the champion moved whenever the version had been compared with it") == (
        decision["moved"],
        decision["reason"],
    )
    assert {"champion": 1} == registry.model("m").aliases


def test_failed_gates_are_decided_at_once_whoever_is_champion(registry: Registry) -> None:
    register(registry, "job-1")
    move(registry, "champion", "1")
    version = register(registry, "job-2", gates=[FAILED, compared_with(None)])

    assert registry.promote(model="m", version=version, job="job-2") is False


def test_by_hand_an_outdated_comparison_is_refused_for_champion_alone_unless_forced(registry: Registry) -> None:
    register(registry, "job-1")
    move(registry, "champion", "1")
    register(registry, "job-2", gates=[compared_with(None)])

    move(registry, "challenger", "2")
    with pytest.raises(ComparisonOutdated, match=r"not compared with the present champion \(version 1\)"):
        move(registry, "champion", "2")
    registry.move_alias("m", "champion", "2", by="anna", reason="known to be better", force=True)
    again = registry.move_alias("m", "champion", "2", by="anna", reason="")

    assert {"champion": 2, "challenger": 2} == registry.model("m").aliases
    assert (2, 2) == (again.previous, again.version)
    assert [(True, False), (False, False), (True, True)] == [
        (decision["moved"], decision["forced"]) for decision in registry.decisions("m", 2)
    ]
