"""Max-sensitivity: none of an explainer that never changes, known of a linear one."""

import math

import numpy as np
import pytest

from explain.fidelity.sensitivity import element_spreads, max_sensitivity
from explain.game import Background

ROW = np.array([1.0, 2.0, 2.0], np.float32)


def test_of_an_explainer_that_always_says_the_same_is_zero() -> None:
    constant = np.array([1.0, 2.0, 3.0])

    largest = max_sensitivity(lambda _: constant, ROW, constant, np.ones(3), n_perturbations=20, seed=0)

    assert 0 == largest


def test_of_the_row_itself_is_how_far_the_row_moved() -> None:
    moved = []

    def explain(row: np.ndarray) -> np.ndarray:
        moved.append(np.linalg.norm(row - ROW))
        return row.astype(np.float64)

    largest = max_sensitivity(explain, ROW, ROW.astype(float), np.array([1.0, 0.0, 2.0]), n_perturbations=50, seed=0)

    # The norm of the row is 3, and no element moves further than 0.05 spreads.
    assert largest == pytest.approx(max(moved) / 3)
    assert 0.5 * 0.05 * math.sqrt(5) / 3 < largest <= 0.05 * math.sqrt(5) / 3


def test_never_falls_with_more_perturbations_and_follows_its_seed() -> None:
    def explain(row: np.ndarray) -> np.ndarray:
        return np.sin(40 * row.astype(np.float64))

    few, more, again = (
        max_sensitivity(explain, ROW, explain(ROW), np.ones(3), n_perturbations=count, seed=1) for count in (3, 30, 30)
    )

    assert few <= more == again


@pytest.mark.parametrize(("moved", "expected"), [(0.0, 0.0), (1.0, math.inf)])
def test_attributions_of_zero_are_steady_or_infinitely_not(moved: float, expected: float) -> None:
    zeros = np.zeros(3)

    largest = max_sensitivity(lambda _: zeros + moved, ROW, zeros, np.ones(3), n_perturbations=2, seed=0)

    assert expected == largest


def test_spreads_are_weighted_and_zero_where_the_background_agrees() -> None:
    rows = np.array([[0, 5], [4, 5]], np.float32)
    background = Background.of(rows, lambda rows: rows, np.array([0.25, 0.75]))

    np.testing.assert_allclose(element_spreads(background), [math.sqrt(3), 0])
