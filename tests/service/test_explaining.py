"""Explaining rows of one version, where no HTTP is needed: replays, and which method a request gets."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from explain.attribution import Estimate
from explain.cam import FeatureMaps, KerasFeatureMaps
from explain.gradients import KerasGradient
from explain.paths import Gradient
from models.artifact import Artifact
from service.serving.engine import SLICE_ROWS, OnnxEngine
from service.serving.explaining import ExplainedVersion, ExplanationOrder, Networks
from service.serving.prices import LearnedPrice

ORDER = ExplanationOrder(
    targets=((0,), (0,)),
    output="value",
    method="kernel",
    tolerance=1e-9,
    deadline_ms=60_000,
    budget=None,
    strict=False,
    seed=3,
)


@pytest.fixture(scope="module")
def version(diabetes_artifact: Artifact) -> ExplainedVersion:
    """Diabetes with its gradient, its rows priced at a thousandth of a millisecond."""
    path = diabetes_artifact.onnx_path
    assert path is not None
    engine = OnnxEngine(path, diabetes_artifact.signature, threads=1, keep_memory=True)
    price = LearnedPrice(0.001, 0.001 * SLICE_ROWS, SLICE_ROWS)

    @lru_cache
    def model(output: str) -> Any:
        from models.outputs import target_model

        return target_model(diabetes_artifact.load_keras(), diabetes_artifact.signature, output)

    @lru_cache
    def gradient(output: str, _engine: str | None) -> Gradient:
        return KerasGradient(model(output), 256)

    def maps(output: str, layer: str | None) -> FeatureMaps:
        return KerasFeatureMaps(model(output), layer)

    return ExplainedVersion(diabetes_artifact, engine, price, Networks(gradient, model, maps, price))


@pytest.mark.parametrize(
    ("order", "stop_reason"),
    [
        pytest.param(replace(ORDER, method="exact"), "exact", id="exact"),
        pytest.param(replace(ORDER, deadline_ms=1), "deadline", id="kernel, cut by its deadline"),
        pytest.param(replace(ORDER, budget=12_345), "budget", id="kernel, cut by its budget"),
        pytest.param(replace(ORDER, tolerance=0.01), "tolerance", id="kernel, within its tolerance"),
        pytest.param(ORDER, "exact", id="kernel, over every coalition"),
        pytest.param(
            replace(ORDER, method="expected-gradients", deadline_ms=20),
            "deadline",
            id="gradients, cut by their deadline",
        ),
        pytest.param(
            replace(ORDER, method="expected-gradients", budget=300),
            "budget",
            id="gradients, on a budget that samples the background",
        ),
    ],
)
def test_replay_with_the_recorded_evaluations_gives_the_same_bits(
    version: ExplainedVersion,
    diabetes_artifact: Artifact,
    order: ExplanationOrder,
    stop_reason: str,
) -> None:
    rows = diabetes_artifact.background[0][:2] + np.float32(0.5)
    recorded = version.explain(rows, order)

    # Whatever its clock says: half an hour, or nothing.
    replays = [
        version.explain(
            rows,
            replace(order, deadline_ms=deadline_ms, evaluations=tuple(estimate.evaluations for estimate in recorded)),
        )
        for deadline_ms in (1_800_000, 1e-6)
    ]

    assert [stop_reason, stop_reason] == [estimate.stop_reason for estimate in recorded]
    for replayed in replays:
        assert [facts(estimate) for estimate in recorded] == [facts(estimate) for estimate in replayed]


def test_a_row_s_method_depends_on_how_many_share_the_deadline_but_not_on_which(
    version: ExplainedVersion, diabetes_artifact: Artifact
) -> None:
    """A row that equals the background in most columns would be cheap; with any company it is planned as any other."""
    rows = diabetes_artifact.background[0]
    order = replace(ORDER, method="auto", tolerance=0.05, deadline_ms=400)

    alone, again, together = (
        version.plan(chosen, order)[0] for chosen in (rows[:1], rows[1:2], np.concatenate([rows[:1], rows[:1]]))
    )

    # 102,400 rows at 0.001 ms fit half of 400 ms but not half of 200 ms, where 40 pairs do.
    assert ("exact", "exact", "kernel") == (alone, again, together)


def facts(estimate: Estimate) -> tuple[object, ...]:
    return (
        estimate.method,
        estimate.attributions.tobytes(),
        estimate.standard_errors.tobytes(),
        estimate.half_widths.tobytes(),
        estimate.evaluations,
        estimate.stop_reason,
    )
