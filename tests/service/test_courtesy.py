"""Who goes first in the compute process."""

from __future__ import annotations

import threading
from time import perf_counter

import pytest

from service.serving import courtesy
from service.serving.courtesy import Courtesy, OrderDropped, Rank


def passed(house: Courtesy, number: int, rank: Rank) -> threading.Event:
    """Set when an order that is worked on in a thread has been let through once."""
    done = threading.Event()

    def work() -> None:
        with house.working_on(number, rank):
            house.give_way()
        done.set()

    threading.Thread(target=work, daemon=True).start()
    return done


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "LONGEST_PAUSE_SECONDS", {Rank.EXPLANATION: 30.0, Rank.JOB: 30.0})


@pytest.mark.parametrize(
    ("waiting", "working", "gives_way"),
    [
        (Rank.PREDICTION, Rank.EXPLANATION, True),
        (Rank.PREDICTION, Rank.JOB, True),
        (Rank.EXPLANATION, Rank.JOB, True),
        (Rank.EXPLANATION, Rank.EXPLANATION, False),
        (Rank.JOB, Rank.EXPLANATION, False),
        (Rank.JOB, Rank.JOB, False),
    ],
)
def test_orders_give_way_to_those_of_lower_rank_until_they_have_left(
    waiting: Rank, working: Rank, gives_way: bool
) -> None:
    house = Courtesy()
    house.arrived(1, waiting)
    house.arrived(2, working)

    done = passed(house, 2, working)

    assert done.wait(0.2 if gives_way else 60) is not gives_way
    house.left(1)
    assert done.wait(60)


def test_nobody_gives_way_to_an_order_that_waits_for_its_version() -> None:
    house = Courtesy()
    house.arrived(1, Rank.PREDICTION)
    house.deferred(1)
    house.arrived(2, Rank.JOB)

    assert passed(house, 2, Rank.JOB).wait(60)


def test_a_pause_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "LONGEST_PAUSE_SECONDS", {Rank.EXPLANATION: 0.05, Rank.JOB: 0.05})
    house = Courtesy()
    house.arrived(1, Rank.PREDICTION)
    house.arrived(2, Rank.JOB)

    started = perf_counter()
    with house.working_on(2, Rank.JOB):
        house.give_way()
        waited_ms = house.waited_ms()

    assert perf_counter() - started >= 0.05
    assert waited_ms >= 50


def test_an_order_that_is_dropped_while_it_gives_way_ends_at_once() -> None:
    house = Courtesy()
    house.arrived(1, Rank.PREDICTION)
    house.arrived(2, Rank.JOB)
    threading.Timer(0.1, house.drop, [2]).start()

    with house.working_on(2, Rank.JOB), pytest.raises(OrderDropped):
        house.give_way()
