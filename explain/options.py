"""What an option of a method may be: its values, its default, and how a wrong one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

Kinds = Set[str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The values of an option.

    Attributes:
        expected: in words, as a refusal names them.
        takes: whether a JSON value is one of them.
    """

    expected: str
    takes: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a method.

    Attributes:
        default: what it is where it is not given. None: it is then off, or found out, and no receipt names it.
        kinds: of models whose explanations have it; None for all that the method explains.
    """

    name: str
    accepted: Accepted
    description: str
    default: Any = None
    kinds: Kinds | None = None


def whole(low: int, high: int) -> Accepted:
    """A whole number in a closed range."""
    return Accepted(
        f"a whole number from {low:,} to {high:,}", lambda value: type(value) is int and low <= value <= high
    )


def whole_each(low: int, high: int) -> Accepted:
    """A list of such whole numbers."""
    each = whole(low, high)
    return Accepted(
        f"a list of whole numbers from {low:,} to {high:,}",
        lambda value: type(value) is list and 0 < len(value) <= 3 and all(map(each.takes, value)),
    )


def number(low: float, high: float) -> Accepted:
    """A number in a closed range."""
    return Accepted(
        f"a number from {low:g} to {high:g}", lambda value: type(value) in (int, float) and low <= value <= high
    )


def flag() -> Accepted:
    return Accepted("true or false", lambda value: type(value) is bool)


def one_of(*names: str) -> Accepted:
    return Accepted(f"one of {', '.join(names)}", lambda value: type(value) is str and value in names)


def name_of(what: str) -> Accepted:
    return Accepted(f"the name of {what}", lambda value: type(value) is str and 0 < len(value) <= 200)


def either(*choices: Accepted) -> Accepted:
    return Accepted(
        ", or ".join(choice.expected for choice in choices),
        lambda value: any(choice.takes(value) for choice in choices),
    )


def options_of(options: Sequence[Option], kind: str) -> tuple[Option, ...]:
    """Those that explanations of a kind of model have."""
    return tuple(option for option in options if option.kinds is None or kind in option.kinds)


def option_faults(options: Sequence[Option], given: Mapping[str, Any], *, owner: str) -> list[tuple[str, str]]:
    """Name and expectation of each given option that cannot be used.

    Args:
        owner: whose options they are, in words.
    """
    known = {option.name: option for option in options}
    names = f"one of the options of {owner}: {', '.join(known)}" if known else f"no options: {owner} has none"
    return [
        (name, known[name].accepted.expected if name in known else names)
        for name, value in given.items()
        # null is what is not given.
        if name not in known or not (value is None or known[name].accepted.takes(value))
    ]


def with_defaults(options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run has: what was given, and the defaults of the others that have one."""
    defaults = {option.name: option.default for option in options if option.default is not None}
    return {**defaults, **{name: value for name, value in given.items() if value is not None}}
