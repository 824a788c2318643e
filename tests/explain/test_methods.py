"""The table of methods: what fits, and which options there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from explain import regression
from explain.errors import MethodDoesNotFit
from explain.exact import MAX_PLAYERS
from explain.methods import METHODS, check_method, fitting, method_option_faults, resolve_options
from explain.options import (
    Option,
    either,
    flag,
    name_of,
    number,
    one_of,
    option_faults,
    options_of,
    whole,
    with_defaults,
)

OPTIONS = (
    Option("window", whole(1, 64), "pixels"),
    Option("noise", number(0, 1), "of the scale", default=0.1),
    Option("baseline", one_of("mean", "blur"), "what is not there", default="mean", kinds=frozenset({"image"})),
    Option("layer", either(name_of("a layer"), whole(0, 9)), "which one"),
    Option("interactions", flag(), "of two players"),
)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_default_is_a_value_that_its_option_takes(name: str) -> None:
    method = METHODS[name]

    assert [] == [o.name for o in method.options if o.default is not None and not o.accepted.takes(o.default)]
    for kind in method.kinds:
        names = [option.name for option in options_of(method.options, kind)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "n_players", "reason"),
    [
        ("lime", 0, "there is no such method"),
        ("Exact", 0, "there is no such method"),
        ("exact", MAX_PLAYERS + 1, "at most 20 players, and 21 differ here"),
        ("kernel", regression.MAX_PLAYERS + 1, "at most 1024 players, and 1025 differ here"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_with_the_names_of_those_that_do(
    name: str, n_players: int, reason: str
) -> None:
    with pytest.raises(MethodDoesNotFit, match=reason) as refusal:
        check_method(name, "columns", n_players)

    assert tuple(fitting("columns", n_players)) == refusal.value.fitting
    assert "auto" == refusal.value.fitting[0]
    assert name not in refusal.value.fitting
    assert repr(name) in str(refusal.value)


def test_a_method_that_takes_gradients_does_not_fit_text() -> None:
    with pytest.raises(MethodDoesNotFit, match="columns of numbers, images, series, and this one takes text"):
        check_method("expected-gradients", "text")

    assert "expected-gradients" not in fitting("text")
    assert "kernel" in fitting("text")


@pytest.mark.parametrize("name", ["auto", *fitting("columns", 5)])
def test_what_fits_is_not_refused(name: str) -> None:
    check_method(name, "columns", 5)


def test_unknown_options_are_refused_with_the_names_of_those_there_are() -> None:
    faults = option_faults(OPTIONS[:2], {"windows": 3, "noise": 0.5}, owner="method 'm'")

    assert [("windows", "one of the options of method 'm': window, noise")] == faults
    assert [("a", "no options: method 'auto' has none")] == method_option_faults("auto", "columns", {"a": 1})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"window": 0}, "a whole number from 1 to 64"),
        ({"window": 65}, "a whole number from 1 to 64"),
        ({"window": 3.0}, "a whole number from 1 to 64"),
        ({"window": True}, "a whole number from 1 to 64"),
        ({"noise": -0.1}, "a number from 0 to 1"),
        ({"noise": "0.1"}, "a number from 0 to 1"),
        ({"noise": float("nan")}, "a number from 0 to 1"),
        ({"baseline": "black"}, "one of mean, blur"),
        ({"layer": ""}, "the name of a layer, or a whole number from 0 to 9"),
        ({"interactions": 1}, "true or false"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_refused_in_words(given: dict[str, object], expected: str) -> None:
    assert [(next(iter(given)), expected)] == option_faults(OPTIONS, given, owner="it")


def test_good_values_and_null_are_taken_and_defaults_filled_in_where_there_are_any() -> None:
    given = {"window": 3, "noise": None, "layer": 4, "interactions": True}

    assert [] == option_faults(OPTIONS, given, owner="it")
    assert {"noise": 0.1, "baseline": "mean", "window": 3, "layer": 4, "interactions": True} == with_defaults(
        OPTIONS, given
    )


def test_an_option_for_images_does_not_exist_for_columns() -> None:
    assert ["window", "noise", "layer", "interactions"] == [option.name for option in options_of(OPTIONS, "columns")]
    assert OPTIONS == options_of(OPTIONS, "image")


def test_a_method_without_options_runs_with_none() -> None:
    assert {} == resolve_options("expected-gradients", "columns", {})


def test_the_docs_name_every_method_with_its_options() -> None:
    text = (Path(__file__).parents[2] / "docs" / "explanations.md").read_text()
    table = text.partition("### What a method explains, and its options")[2].partition("\n- ")[0]
    lines = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| `")]
    documented = {
        name: set(re.findall(r"`([\w-]+)`", options))
        for names, _, options in lines
        for name in re.findall(r"`([^`]+)`", names)
    }

    assert {name: {option.name for option in method.options} for name, method in METHODS.items()} == documented
