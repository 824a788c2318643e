"""Which engine predicts is decided by what was measured and by the settings, and is said with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import without_onnx

from models.artifact import Artifact
from service.serving import choosing
from service.serving.choosing import EngineRules, choose_engine, in_words, is_faster, rules_of, time_engines
from service.serving.engine import SLICE_ROWS, Warmth, warm_up
from service.serving.engine_report import report_of_files
from service.settings import Settings


@pytest.mark.parametrize(
    ("openvino", "onnxruntime", "taken"),
    [
        ({1: 1.0, 32: 10.0}, {1: 2.0, 32: 20.0}, True),
        ({1: 1.0, 32: 10.0}, {1: 1.05, 32: 10.5}, False),  # within what two timings of one thing differ by
        ({1: 2.0, 32: 10.0}, {1: 1.0, 32: 40.0}, True),  # slower for one row, much faster for many
        ({1: 2.0, 32: 10.0}, {1: 1.0, 32: 15.0}, False),
        ({32: 10.0}, {32: 12.0}, True),
    ],
)
def test_openvino_takes_over_where_it_is_faster_over_the_sizes_in_use(
    openvino: dict[int, float], onnxruntime: dict[int, float], taken: bool
) -> None:
    assert taken == is_faster(openvino, onnxruntime)


def test_engines_are_timed_in_turns_on_the_sizes_that_are_asked_for() -> None:
    called: list[tuple[str, int]] = []

    class Counting:
        def __init__(self, name: str) -> None:
            self.name = name

        def evaluate(self, rows: Any, output: str) -> Any:
            called.append((self.name, len(rows)))
            assert "value" == output
            return rows

    engines: Any = {name: Counting(name) for name in ("onnxruntime", "openvino")}

    times = time_engines(engines, np.zeros((5, 3), np.float32), "value", [1, 32])

    assert {name: [1, 32] for name in engines} == {name: list(found) for name, found in times.items()}
    assert [("onnxruntime", 1), ("openvino", 1)] * 2 == called[:4]
    assert {1, 32} == {n_rows for _, n_rows in called}
    assert "1 row took" in in_words(times)


def test_without_the_extra_onnx_runtime_predicts_with_a_call_on_each_core(
    diabetes_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "is_installed", lambda: False)

    chosen = choose_engine(diabetes_artifact, EngineRules(cores=3))

    assert chosen is not None
    assert ("onnxruntime", 1, 3) == (chosen.report.name, chosen.report.threads, chosen.lanes)
    assert chosen.engine is chosen.onnx
    assert chosen.report.reason.startswith("its ONNX export was at most ")
    assert diabetes_artifact.card["export"]["max_difference"] == chosen.report.max_difference
    assert diabetes_artifact.card["batch_invariant"] == chosen.report.batch_invariant


@pytest.mark.parametrize(("wide_ms", "threads", "lanes"), [(4.0, 2, 1), (9.0, 1, 2)])
def test_a_dear_network_has_all_cores_for_each_call_where_they_make_it_faster(
    diabetes_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, wide_ms: float, threads: int, lanes: int
) -> None:
    taken = iter([10.0, wide_ms])
    monkeypatch.setattr(choosing, "is_installed", lambda: False)
    monkeypatch.setattr(choosing, "warm_up", lambda *_: Warmth(next(taken), 100.0, 32))

    chosen = choose_engine(diabetes_artifact, EngineRules(cores=2))

    assert chosen is not None
    assert (threads, lanes) == (chosen.report.threads, chosen.lanes)


def test_a_setting_names_the_engine_and_the_reason_says_so(diabetes_artifact: Artifact, tmp_path: Path) -> None:
    onnx = choose_engine(diabetes_artifact, EngineRules("onnxruntime"))

    assert onnx is not None
    assert onnx.report.reason.endswith("; VITRINE_ENGINE is onnxruntime")
    assert choose_engine(diabetes_artifact, EngineRules("tensorflow")) is None
    assert "VITRINE_ENGINE is tensorflow" == report_of_files(diabetes_artifact, "tensorflow").reason
    assert "it has no ONNX export" == report_of_files(without_onnx(diabetes_artifact, tmp_path)).reason


def test_a_version_that_onnx_cannot_hold_says_why(erfinv_artifact: Artifact) -> None:
    report = report_of_files(erfinv_artifact)

    assert "tensorflow" == report.name
    assert erfinv_artifact.card["export"]["reason"] == report.reason


def test_an_engine_is_timed_by_the_calls_that_it_will_get() -> None:
    assert (1, 32) == rules_of(Settings(cores=1)).batch_rows
    assert (32,) == rules_of(Settings(cores=1, pad_batches=True)).batch_rows


@pytest.mark.parametrize(
    ("row_ms", "warmed", "found"),
    [
        (0.01, [1, 8, 32, 256, SLICE_ROWS], Warmth(0.01, 0.01 * SLICE_ROWS, SLICE_ROWS)),
        (1.0, [1, 8, 32, 256], Warmth(1.0, 256.0, 256)),
        (100.0, [1, 8], Warmth(100.0, 800.0, 8)),
        (2000.0, [1], Warmth(2000.0, 2000.0, 1)),
    ],
)
def test_an_engine_is_warmed_for_the_sizes_in_use_and_a_dear_one_for_those_there_is_time_for(
    diabetes_artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    row_ms: float,
    warmed: list[int],
    found: Warmth,
) -> None:
    sizes: list[int] = []

    class Engine:
        name = "test"

        def evaluate(self, rows: Any, output: str) -> Any:
            sizes.append(len(rows))
            assert "value" == output
            return len(rows) * row_ms

    monkeypatch.setattr("service.serving.engine.measured_ms", lambda call: call())

    assert found == warm_up(Engine(), diabetes_artifact.signature)
    assert warmed == sorted(set(sizes))
