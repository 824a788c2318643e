"""How explanations are worded for Vertex's clients, without a server."""

from __future__ import annotations

import numpy as np
import pytest

from explain.attribution import Estimand, Estimate
from service.serving.vertex import approximation_errors


def estimate(half_width: float, residual: float, scale: float, estimand: Estimand = "shapley") -> Estimate:
    """Two players that miss `residual` of a difference of 1."""
    return Estimate(
        method="kernel",
        estimand=estimand,
        attributions=np.array([[0.75], [0.25 + residual]]),
        standard_errors=np.full((2, 1), half_width / 1.96),
        half_widths=np.array([[half_width], [half_width / 2]]),
        values=np.array([1.0]),
        base_values=np.array([0.0]),
        scales=np.array([scale]),
        evaluations=100,
        stop_reason="tolerance",
    )


@pytest.mark.parametrize(
    ("half_width", "residual", "scale", "expected"),
    [(0.01, 0.0, 1.0, 0.01), (0.01, 0.5, 1.0, 0.5), (0.01, -0.5, 2.0, 0.25), (0.0, 0.0, 0.0, 0.0)],
)
def test_the_approximation_error_is_the_larger_of_half_width_and_residual_in_scales(
    half_width: float, residual: float, scale: float, expected: float
) -> None:
    assert [pytest.approx(expected)] == approximation_errors(estimate(half_width, residual, scale))


def test_what_is_not_known_is_null() -> None:
    assert [None] == approximation_errors(estimate(np.nan, 0.0, 1.0))
    assert [None] == approximation_errors(estimate(0.0, 0.0, 1.0, estimand="saliency"))


def test_of_a_path_that_was_not_sampled_it_is_the_residual() -> None:
    assert [pytest.approx(0.25)] == approximation_errors(estimate(np.nan, 0.5, 2.0, estimand="aumann-shapley"))
