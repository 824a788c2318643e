"""Splits of a model's traffic: who is served by which alias, and what the registry keeps."""

from __future__ import annotations

from collections import Counter

import pytest
import sqlalchemy as sa
from registered import move, register

from models.errors import UnknownModel, UnknownVersion
from models.registry import Registry
from models.traffic import alias_of

KEYS = [f"patient-{i}" for i in range(4000)]


def test_keys_are_spread_by_their_shares() -> None:
    served = Counter(alias_of("m", {"challenger": 10, "champion": 90}, key) for key in KEYS)

    assert served["challenger"] + served["champion"] == len(KEYS)
    # Five standard deviations of a binomial of 4,000 and 0.1 are 95.
    assert served["challenger"] == pytest.approx(400, abs=95)


def test_key_stays_with_its_alias_and_none_leaves_one_whose_share_grows() -> None:
    few = {key for key in KEYS if alias_of("m", {"challenger": 10, "champion": 90}, key) == "challenger"}
    more = {key for key in KEYS if alias_of("m", {"challenger": 30, "champion": 70}, key) == "challenger"}

    assert few < more
    assert few == {key for key in KEYS if alias_of("m", {"challenger": 10, "champion": 90}, key) == "challenger"}


def test_models_spread_the_same_keys_differently() -> None:
    shares = {"challenger": 50, "champion": 50}

    alike = sum(alias_of("a", shares, key) == alias_of("b", shares, key) for key in KEYS)

    assert alike == pytest.approx(2000, abs=160)


def test_all_for_one_alias_leaves_nothing_for_others() -> None:
    assert {alias_of("m", {"challenger": 100}, key) for key in KEYS} == {"challenger"}


@pytest.fixture
def registry(engine: sa.Engine) -> Registry:
    registry = Registry(engine)
    register(registry, "job-1")
    register(registry, "job-2")
    move(registry, "champion", "1")
    move(registry, "challenger", "2")
    return registry


def test_split_is_kept_replaced_and_ended(registry: Registry, engine: sa.Engine) -> None:
    registry.split_traffic("m", {"champion": 90, "challenger": 10}, by="test")
    first = Registry(engine).model("m").traffic
    registry.split_traffic("m", {"champion": 0, "challenger": 100}, by="test")
    second = registry.model("m").traffic
    registry.split_traffic("m", {"champion": 100, "challenger": 0}, by="test")

    assert ({"champion": 90, "challenger": 10}, {"challenger": 100}, {}) == (
        first,
        second,
        registry.model("m").traffic,
    )


def test_split_to_what_there_is_not_changes_nothing(registry: Registry) -> None:
    registry.split_traffic("m", {"champion": 90, "challenger": 10}, by="test")

    with pytest.raises(UnknownVersion, match="canary"):
        registry.split_traffic("m", {"champion": 50, "canary": 50}, by="test")
    with pytest.raises(UnknownModel):
        registry.split_traffic("other", {"champion": 100}, by="test")

    assert {"champion": 90, "challenger": 10} == registry.model("m").traffic
