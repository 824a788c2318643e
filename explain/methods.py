"""What the methods are: one table of what each explains, needs and takes, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from explain import exact, reference, regression, running, smoothing
from explain.attribution import Estimand, Estimate
from explain.errors import MethodDoesNotFit
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
    whole_each,
    with_defaults,
)
from explain.running import Work

Kind = Literal["columns", "mixed", "image", "series", "gapped series", "text"]
"""What a model takes. Of `mixed` columns some are codes of categories, dates or texts, or may be missing, as may values
of a `gapped series`: what lies between two such values means nothing, so that there are no gradients and no means."""
Needs = Literal["evaluations", "gradient", "layers", "shap"]
"""What a method asks of a model: its outputs, a compiled gradient of an output, the layers of the Keras model; or the
model in a process where shap may do as it likes."""
Run = Callable[[Work], Estimate]

AUTO = "auto"
EVERYTHING: frozenset[Kind] = frozenset({"columns", "mixed", "image", "series", "gapped series", "text"})
WITHOUT_MEANS: frozenset[Kind] = frozenset({"mixed", "gapped series"})
WITH_GRADIENTS: frozenset[Kind] = frozenset({"columns", "image", "series"})
"""A token has no gradient: text is explained by evaluations."""
WITH_POSITIONS: frozenset[Kind] = frozenset({"image", "series"})
WITH_WINDOWS: frozenset[Kind] = frozenset({"series", "gapped series"})


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
    run: Run
    max_players: int | None = None
    options: tuple[Option, ...] = ()

    @property
    def replaces_background(self) -> bool:
        """Whether its option `baseline` names the background that it plays against."""
        return self.estimand in ("shapley", "owen") and any(option.name == "baseline" for option in self.options)

    def takes(self, n_players: int) -> bool:
        return self.max_players is None or n_players <= self.max_players


SEGMENTS = Option(
    "segments",
    whole(2, 4096),
    "players are so many connected segments of like colour; without it they are pixels",
    kinds=frozenset({"image"}),
)
WINDOWS = Option(
    "windows",
    whole(1, 4096),
    "players are the channels in so many windows of time; without it, in as many as make about 64 players",
    kinds=WITH_WINDOWS,
)
SPANS = Option(
    "spans",
    whole(2, 4096),
    "players are so many runs of words; without it each word is one",
    kinds=frozenset({"text"}),
)
MASKING = Option(
    "masking",
    one_of("drop", "padding", "mask"),
    "what hidden words become: they are left out and the others move up (drop), or leave a gap (padding), or become a "
    "word that is not in the vocabulary (mask)",
    default="drop",
    kinds=frozenset({"text"}),
)
BASELINES = (
    Option(
        "baseline",
        one_of("sample", "mean", "zero", "blur"),
        "what hidden players become: rows of the background (sample), its mean, zeros, or the image itself, blurred",
        kinds=frozenset({"image"}),
    ),
    Option(
        "baseline",
        one_of("sample", "mean", "zero"),
        "what hidden players become: rows of the background (sample), its mean, or zeros",
        kinds=frozenset({"columns", "series"}),
    ),
)
INTERACTIONS = Option(
    "interactions", flag(), "whether to give the interaction of every two players too (Grabisch and Roubens 1999)"
)
LAYER = Option("layer", name_of("a layer"), "whose feature map is looked at; found where it is not named")
POSITIONS = either(whole(1, 4096), whole_each(1, 4096))


def _shapley(name: str, run: Run, *options: Option, estimand: Estimand = "shapley", samples: bool = True) -> Method:
    largest = {"exact": exact.MAX_PLAYERS, "kernel": regression.MAX_PLAYERS}.get(name)
    return Method(
        name,
        EVERYTHING,
        "evaluations",
        estimand,
        samples=samples,
        run=run,
        max_players=largest,
        options=(*options, *BASELINES, SEGMENTS, WINDOWS, SPANS, MASKING),
    )


def _map(name: str, run: Run) -> Method:
    return Method(name, WITH_POSITIONS, "layers", "saliency", samples=False, run=run, options=(LAYER,))


def _reference(name: str) -> Method:
    kinds = (
        EVERYTHING if name in ("shap.kernel", "shap.permutation", "shap.partition", "shap.exact") else WITH_GRADIENTS
    )
    largest = reference.MAX_EXACT_PLAYERS if name == "shap.exact" else None
    return Method(
        name,
        kinds,
        "shap",
        reference.ESTIMANDS[name],
        samples=False,
        run=partial(running.run_reference, name),
        max_players=largest,
    )


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _shapley("exact", running.run_exact, INTERACTIONS, samples=False),
        _shapley("kernel", running.run_kernel, INTERACTIONS),
        _shapley("permutation", running.run_permutation),
        _shapley("partition", running.run_partition, estimand="owen"),
        Method(
            "expected-gradients",
            WITH_GRADIENTS,
            "gradient",
            "aumann-shapley",
            samples=True,
            run=running.run_expected_gradients,
        ),
        Method(
            "integrated-gradients",
            WITH_GRADIENTS,
            "gradient",
            "aumann-shapley",
            samples=False,
            run=running.run_integrated_gradients,
            options=(
                Option(
                    "baseline",
                    one_of("mean", "zero", "blur"),
                    "where the path begins: the background's mean, zeros, or the image itself, blurred",
                    default="mean",
                    kinds=frozenset({"image"}),
                ),
                Option(
                    "baseline",
                    one_of("mean", "zero"),
                    "where the path begins: the background's mean, or zeros",
                    default="mean",
                    kinds=frozenset({"columns", "series"}),
                ),
            ),
        ),
        Method(
            "smooth-grad",
            WITH_GRADIENTS,
            "gradient",
            "saliency",
            samples=True,
            run=running.run_smooth_grad,
            options=(
                Option("noise", number(0, 10), "deviation of the noise, in spreads of the background", smoothing.NOISE),
            ),
        ),
        _map("grad-cam", running.run_grad_cam),
        _map("grad-cam++", running.run_grad_cam_plus_plus),
        _map("layer-cam", running.run_layer_cam),
        Method(
            "occlusion",
            EVERYTHING - {"text", "gapped series"},
            "evaluations",
            "saliency",
            samples=False,
            run=running.run_occlusion,
            options=(
                Option(
                    "window", POSITIONS, "positions of a window, one number or one for each axis", kinds=WITH_POSITIONS
                ),
                Option("stride", POSITIONS, "positions from window to window", kinds=WITH_POSITIONS),
                Option(
                    "baseline",
                    either(one_of("mean", "sample"), number(-1e30, 1e30)),
                    "what a window becomes: the background's mean, its rows in turn, or a number",
                    default="mean",
                    kinds=EVERYTHING - WITHOUT_MEANS,
                ),
                Option(
                    "baseline",
                    one_of("sample"),
                    "what a feature becomes: the background's rows in turn",
                    default="sample",
                    kinds=frozenset({"mixed"}),
                ),
            ),
        ),
        Method(
            "rise",
            WITH_POSITIONS,
            "evaluations",
            "saliency",
            samples=True,
            run=running.run_rise,
            options=(
                Option("cells", POSITIONS, "of the masks' grid, one number or one for each axis", default=7),
                Option(
                    "baseline",
                    either(one_of("mean"), number(-1e30, 1e30)),
                    "what a masked position becomes: the background's mean, or a number",
                    default="mean",
                ),
            ),
        ),
        *map(_reference, reference.REFERENCE_METHODS),
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


def needs_shap(name: str) -> bool:
    """Whether the method runs in the process for shap's explainers."""
    return name in METHODS and METHODS[name].needs == "shap"


def rests_on_keras(name: str) -> bool:
    """Whether the method runs on the Keras model, whatever engine predicts."""
    return METHODS[name].needs != "evaluations"


_WORDS: dict[Kind, str] = {
    "columns": "columns of numbers",
    "mixed": "columns of which some are categories, dates or texts, or may be missing",
    "image": "images",
    "series": "series",
    "gapped series": "series with missing values",
    "text": "text",
}


def _options(name: str, kind: Kind) -> tuple[Option, ...]:
    return () if name == AUTO else options_of(METHODS[name].options, kind)


def _in_words(kinds: frozenset[Kind]) -> str:
    return ", ".join(word for kind, word in _WORDS.items() if kind in kinds)
