"""What the methods are: one table of what each explains, needs and takes, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from explain import exact, regression, running
from explain.attribution import Estimand, Estimate
from explain.errors import MethodDoesNotFit
from explain.options import Option, option_faults, options_of, with_defaults
from explain.running import Work

Kind = Literal["columns", "image", "series", "text"]
"""What a model takes."""
Needs = Literal["evaluations", "gradient", "layers"]
"""What a method asks of a model: its outputs, a compiled gradient of an output, the Keras model itself."""

AUTO = "auto"
EVERYTHING: frozenset[Kind] = frozenset({"columns", "image", "series", "text"})
WITH_GRADIENTS: frozenset[Kind] = frozenset({"columns", "image", "series"})
"""A token has no gradient: text is explained by evaluations."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to explain a row.

    Attributes:
        kinds: of models that it explains.
        samples: whether its errors shrink with the evaluations; else it runs once and is done.
        max_players: the most players that differ from the background; None for any number.
        run: explains one row.
    """

    name: str
    kinds: frozenset[Kind]
    needs: Needs
    estimand: Estimand
    samples: bool
    run: Callable[[Work], Estimate]
    max_players: int | None = None
    options: tuple[Option, ...] = ()

    def takes(self, n_players: int) -> bool:
        return self.max_players is None or n_players <= self.max_players


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "exact",
            EVERYTHING,
            "evaluations",
            "shapley",
            samples=False,
            run=running.run_exact,
            max_players=exact.MAX_PLAYERS,
        ),
        Method(
            "kernel",
            EVERYTHING,
            "evaluations",
            "shapley",
            samples=True,
            run=running.run_kernel,
            max_players=regression.MAX_PLAYERS,
        ),
        Method(
            "expected-gradients",
            WITH_GRADIENTS,
            "gradient",
            "aumann-shapley",
            samples=True,
            run=running.run_expected_gradients,
        ),
    )
}


def fitting(kind: Kind, n_players: int = 0) -> list[str]:
    """The names of the methods that explain a kind of model with so many players, `auto` first."""
    return [AUTO, *(name for name, method in METHODS.items() if kind in method.kinds and method.takes(n_players))]


def check_method(name: str, kind: Kind, n_players: int = 0) -> None:
    """Raises `MethodDoesNotFit`, naming what does, unless the method explains this kind and number of players."""
    if name == AUTO:
        return
    method = METHODS.get(name)
    if method is None:
        raise MethodDoesNotFit(name, "there is no such method", fitting(kind, n_players))
    if kind not in method.kinds:
        reason = f"it explains models of {_in_words(method.kinds)}, and this one takes {_WORDS[kind]}"
        raise MethodDoesNotFit(name, reason, fitting(kind, n_players))
    if not method.takes(n_players):
        reason = f"it takes at most {method.max_players} players, and {n_players} differ here"
        raise MethodDoesNotFit(name, reason, fitting(kind, n_players))


def method_option_faults(name: str, kind: Kind, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and expectation of each given option that the method does not take for this kind of model."""
    return option_faults(_options(name, kind), given, owner=f"method {name!r}")


def resolve_options(name: str, kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run: those given, and the method's defaults."""
    return with_defaults(_options(name, kind), given)


def needs_gradient(name: str) -> bool:
    return METHODS[name].needs == "gradient"


def rests_on_keras(name: str) -> bool:
    """Whether the method runs on the Keras model, whatever engine predicts."""
    return METHODS[name].needs != "evaluations"


_WORDS: dict[Kind, str] = {"columns": "columns", "image": "images", "series": "series", "text": "text"}


def _options(name: str, kind: Kind) -> tuple[Option, ...]:
    return () if name == AUTO else options_of(METHODS[name].options, kind)


def _in_words(kinds: frozenset[Kind]) -> str:
    return ", ".join(word for kind, word in _WORDS.items() if kind in kinds)
