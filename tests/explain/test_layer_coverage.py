"""Which method explains networks of which layers: the table in docs/explanations.md, computed and verified.

Where the table is to change, `WRITE_DOCUMENTS=1 pytest tests/explain/test_layer_coverage.py` writes it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_networks import Network, networks

from explain.attribution import Estimate
from explain.cam import KerasFeatureMaps, grad_cam, grad_cam_plus_plus, layer_cam
from explain.errors import ExplanationError
from explain.exact import exact
from explain.gradients import KerasGradient, expected_gradients
from explain.integrated import integrated_gradients, named_baseline
from explain.limits import Limits
from explain.partition import partition
from explain.permutation import permutation
from explain.perturbation import occlusion, rise
from explain.regression import kernel
from explain.smoothing import smooth_grad

pytestmark = pytest.mark.long

DOCUMENT = Path(__file__).parents[2] / "docs" / "explanations.md"
BEGIN, END = "<!-- layer coverage: begin -->\n", "<!-- layer coverage: end -->\n"
SLICE_ROWS = 128
TARGETS = [0]
BUDGET = Limits(tolerance=0, budget=512)


class Case:
    """A network with what its explanations share."""

    def __init__(self, network: Network) -> None:
        self.network, self.game = network, network.game

    @cached_property
    def gradient(self) -> KerasGradient:
        return KerasGradient(self.network.model, SLICE_ROWS)

    @cached_property
    def maps(self) -> KerasFeatureMaps:
        return KerasFeatureMaps(self.network.model)


@dataclass(frozen=True)
class Column:
    """A method in the table.

    Attributes:
        claims: whether attributions are to add up, so that the table shows the residual.
        evaluates: whether it sees the model by its outputs alone, so that it can be run in float64 too.
    """

    method: str
    run: Callable[[Case, Any], Estimate]
    claims: bool = True
    evaluates: bool = True


COLUMNS = (
    Column("exact", lambda _, game: exact(game, slice_rows=SLICE_ROWS)),
    Column("kernel", lambda _, game: kernel(game, TARGETS, seed=0, limits=Limits(0), slice_rows=SLICE_ROWS)),
    Column("permutation", lambda _, game: permutation(game, TARGETS, seed=0, limits=BUDGET, slice_rows=SLICE_ROWS)),
    Column("partition", lambda _, game: partition(game, TARGETS, seed=0, limits=BUDGET, slice_rows=SLICE_ROWS)),
    Column(
        "expected-gradients",
        lambda case, game: expected_gradients(game, case.gradient, TARGETS, seed=0, limits=BUDGET),
        evaluates=False,
    ),
    Column(
        "integrated-gradients",
        lambda case, game: integrated_gradients(
            game, case.gradient, TARGETS, baseline=named_baseline(game.background, "mean"), limits=BUDGET
        ),
        evaluates=False,
    ),
    Column(
        "smooth-grad",
        lambda case, game: smooth_grad(game, case.gradient, TARGETS, seed=0, limits=BUDGET),
        claims=False,
        evaluates=False,
    ),
    Column(
        "grad-cam",
        lambda case, game: grad_cam(game, case.maps, TARGETS, limits=Limits(0)),
        claims=False,
        evaluates=False,
    ),
    Column(
        "grad-cam++",
        lambda case, game: grad_cam_plus_plus(game, case.maps, TARGETS, limits=Limits(0)),
        claims=False,
        evaluates=False,
    ),
    Column(
        "layer-cam",
        lambda case, game: layer_cam(game, case.maps, TARGETS, limits=Limits(0)),
        claims=False,
        evaluates=False,
    ),
    Column(
        "occlusion",
        lambda _, game: occlusion(game, TARGETS, limits=Limits(0), slice_rows=SLICE_ROWS, baseline="sample"),
        claims=False,
    ),
    Column(
        "rise",
        lambda _, game: rise(game, TARGETS, seed=0, limits=Limits(0, 64), slice_rows=SLICE_ROWS),
        claims=False,
    ),
)
PATHS = ("expected-gradients", "integrated-gradients")


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [Case(network) for network in networks()]


@pytest.fixture(scope="module")
def results(cases: list[Case]) -> dict[tuple[str, str], Estimate | ExplanationError]:
    """For each layer and method, its estimate or its refusal. Any other error fails the tests."""
    found: dict[tuple[str, str], Estimate | ExplanationError] = {}
    for case in cases:
        for column in COLUMNS:
            try:
                estimate: Any = column.run(case, case.game)
            except ExplanationError as refusal:
                estimate = refusal
            found[case.network.layer, column.method] = estimate
    return found


def test_table_in_the_document_is_what_the_methods_do(results: Any, cases: list[Case]) -> None:
    table = table_of([case.network.layer for case in cases], results)
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN)
    written, after = rest.split(END)
    if os.environ.get("WRITE_DOCUMENTS"):
        DOCUMENT.write_text(before + BEGIN + table + END + after)
        written = table

    assert table == written


def test_methods_that_evaluate_say_of_a_network_what_they_say_of_it_in_float64(results: Any, cases: list[Case]) -> None:
    for case in cases:
        for column in COLUMNS:
            estimate = results[case.network.layer, column.method]
            if not column.evaluates or not isinstance(estimate, Estimate):
                continue
            expected = column.run(case, case.network.precise_game).attributions
            difference = np.abs(estimate.attributions - expected).max()
            assert difference <= 1e-5 * estimate.scales[0], (case.network.layer, column.method)


def test_shapley_and_owen_values_add_up_and_the_kernels_are_the_exact_ones(results: Any, cases: list[Case]) -> None:
    for case in cases:
        estimates = {
            method: results[case.network.layer, method] for method in ("exact", "kernel", "permutation", "partition")
        }
        for method, estimate in estimates.items():
            residual = np.abs(estimate.efficiency_residuals[0])
            assert residual <= 1e-5 * estimate.scales[0], (case.network.layer, method)
        difference = np.abs(estimates["exact"].attributions - estimates["kernel"].attributions).max()
        assert difference <= 1e-5 * case.game.scales[0], case.network.layer


def test_gradients_agree_with_finite_differences_in_float64(results: Any, cases: list[Case]) -> None:
    checked = [case for case in cases if isinstance(results[case.network.layer, "expected-gradients"], Estimate)]
    for case in checked:
        rows = np.tile(case.game.row, (SLICE_ROWS,) + (1,) * case.game.row.ndim)

        slopes = case.gradient(rows, np.full(SLICE_ROWS, TARGETS[0], dtype=np.int32))[0]

        expected = finite_differences(case.network.precise_model, case.game.row)
        assert_agree(slopes, expected, case.network.layer)
    assert len(checked) >= len(cases) - 2


def test_gradients_by_feature_maps_agree_with_finite_differences_in_float64(results: Any, cases: list[Case]) -> None:
    import keras

    checked = [case for case in cases if isinstance(results[case.network.layer, "grad-cam"], Estimate)]
    for case in checked:
        features, slopes = case.maps(case.game.row[np.newaxis], np.array(TARGETS, dtype=np.int32))

        model = case.network.precise_model
        # The float64 network's layers are in the same order, under names of their own.
        place = [layer.name for layer in case.network.model.layers].index(case.maps.layer)
        head = keras.Model(model.layers[place].output, model.output)
        assert_agree(slopes[0], finite_differences(head, features[0]), case.network.layer)
    assert len(checked) >= 10


def test_attributions_along_paths_add_up_within_a_tenth(results: Any, cases: list[Case]) -> None:
    for case in cases:
        for method in PATHS:
            estimate = results[case.network.layer, method]
            if isinstance(estimate, Estimate):
                residual = np.abs(estimate.efficiency_residuals[0])
                assert residual <= 0.1 * estimate.scales[0], (case.network.layer, method)


def finite_differences(model: Callable[[Any], Any], point: Any, step: float = 1e-6) -> tuple[Any, Any]:
    """The slope of the target by each element of `point`, in one call of a float64 model, and where there is one.

    At a kink (a tie in max pooling, a ReLU at 0) the slopes to both sides differ.
    """
    flat = point.reshape(-1).astype(np.float64)
    steps = step * np.eye(len(flat))
    points = np.concatenate([flat[np.newaxis], flat + steps, flat - steps]).reshape(-1, *point.shape)
    outputs = np.asarray(model(points))[:, TARGETS[0]]
    rising, falling = (outputs[1 : len(flat) + 1] - outputs[0]) / step, (outputs[0] - outputs[len(flat) + 1 :]) / step
    slopes = ((rising + falling) / 2).reshape(point.shape)
    smooth = np.abs(rising - falling).reshape(point.shape) <= 1e-4 * np.abs(slopes).max()
    return slopes, smooth


def assert_agree(slopes: Any, expected: tuple[Any, Any], layer: str) -> None:
    wanted, smooth = expected
    largest = np.abs(wanted).max()
    assert largest > 1e-4, layer
    assert smooth.mean() > 0.4, layer
    assert np.abs(slopes - wanted)[smooth].max() <= 1e-4 * largest, layer


def table_of(layers: list[str], results: Any) -> str:
    methods = [column.method for column in COLUMNS]
    reasons: list[str] = []
    lines = [
        "| network | " + " | ".join(f"`{method}`" for method in methods) + " |",
        "|---" * (len(methods) + 1) + "|",
    ]
    for layer in layers:
        cells = []
        for column in COLUMNS:
            result = results[layer, column.method]
            if isinstance(result, Estimate):
                cells.append(magnitude(result) if column.claims else "works")
                continue
            reason = reason_of(result)
            if reason not in reasons:
                reasons.append(reason)
            cells.append(f"refused ({reasons.index(reason) + 1})")
        lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    notes = [f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, start=1)]
    return "\n".join([*lines, "", *notes]) + "\n"


def magnitude(estimate: Estimate) -> str:
    """The residual as a part of S: the power of ten that it is below. Rounding, below 1e-5, differs by machine."""
    part = float((np.abs(estimate.efficiency_residuals) / estimate.scales).max())
    return f"1e{max(math.ceil(math.log10(max(part, 1e-9))), -5)}"


def reason_of(refusal: ExplanationError) -> str:
    """The fact in a refusal, without its cure."""
    fact = re.search(r"(?:does not fit|cannot be taken): (.*?)\. ", str(refusal))
    return str(refusal) if fact is None else fact[1]
