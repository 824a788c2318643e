"""Which engine takes a version's gradients, and that a replay has the one of the run that it repeats."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from support import without_onnx

from explain.gradients import KerasGradient
from models.artifact import Artifact
from models.onnx_gradient import OnnxGradient
from models.outputs import target_model
from service.records.record import ExplanationRecord
from service.serving.choosing import EngineRules
from service.serving.compute_process import LoadedVersion
from service.serving.courtesy import Courtesy
from service.serving.explaining import ExplanationOrder
from service.serving.gradients import Gradients

ORDER = ExplanationOrder(
    targets=((0,),),
    output="value",
    method="expected-gradients",
    tolerance=1e-9,
    deadline_ms=60_000,
    budget=4000,
    strict=False,
    seed=3,
)


@pytest.fixture(scope="module")
def exported(diabetes_artifact: Artifact) -> LoadedVersion:
    return LoadedVersion(diabetes_artifact, Courtesy(), EngineRules())


@pytest.fixture(scope="module")
def former(diabetes_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> LoadedVersion:
    """The same version from before gradients were exported."""
    return LoadedVersion(without_onnx(diabetes_artifact, tmp_path_factory.mktemp("former")), Courtesy(), EngineRules())


def test_a_version_with_exported_gradients_takes_them_and_one_without_asks_tensorflow(
    exported: LoadedVersion, former: LoadedVersion
) -> None:
    assert [("onnxruntime", 1024), ("tensorflow", 1024)] == list(exported.report.gradient_slice_rows.items())
    assert [("tensorflow", 1024)] == list(former.report.gradient_slice_rows.items())


def test_tensorflow_is_compiled_only_when_it_is_asked_for(
    diabetes_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"value": target_model(diabetes_artifact.load_keras(), diabetes_artifact.signature, "value")}
    compiled: list[Any] = []
    compiling = KerasGradient._compile
    monkeypatch.setattr(KerasGradient, "_compile", lambda self, **how: (compiled.append(how), compiling(self, **how)))

    gradients = Gradients(diabetes_artifact, models, Courtesy(), 2)
    before = len(compiled)
    asked = [gradients("value", engine) for engine in (None, "onnxruntime", "tensorflow", "tensorflow")]

    assert (0, 1) == (before, len(compiled))
    assert asked[0] is asked[1]
    assert asked[2] is asked[3]
    assert OnnxGradient.name == gradients.own


def test_a_replay_has_the_engine_of_the_run_that_it_repeats(
    exported: LoadedVersion, former: LoadedVersion, diabetes_artifact: Artifact
) -> None:
    rows = diabetes_artifact.background[0][:1]
    by_onnx, by_keras = (version.explained.explain(rows, ORDER)[0] for version in (exported, former))

    for made, engine in ((by_onnx, "onnxruntime"), (by_keras, "tensorflow")):
        order = replace(ORDER, gradient_engine=engine, evaluations=(made.evaluations,))
        again = exported.explained.explain(rows, order)[0]
        assert made.attributions.tobytes() == again.attributions.tobytes()
        assert made.standard_errors.tobytes() == again.standard_errors.tobytes()
    np.testing.assert_allclose(by_onnx.attributions, by_keras.attributions, atol=1e-5 * by_keras.scales[0])


@pytest.mark.parametrize(
    ("method", "engine"), [("expected-gradients", "onnxruntime"), ("smooth-grad", "tensorflow"), ("kernel", None)]
)
def test_a_record_knows_the_engine_that_took_its_gradients(method: str, engine: str | None, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((1, 3), np.float32))
    request = {name: getattr(ORDER, name) for name in ("output", "method", "tolerance", "deadline_ms", "budget")}
    request |= {"targets": [[0]], "strict": False, "seed": 0, "options": {}, "top_k": None}
    record = ExplanationRecord(
        "id", "now", "diabetes", 1,
        orjson.dumps(request).decode(),
        orjson.dumps({"method": method, "evaluations": [100]}).decode(),
        (tmp_path / "rows.npy").read_bytes(),
        orjson.dumps({"receipt": {"engine": engine or "onnxruntime"}}).decode(),
    )  # fmt: skip

    resolved = record.resolved()

    assert engine == resolved.order.gradient_engine
    assert (method, (100,), engine) == (
        record.replay_order(resolved.order).method,
        record.replay_order(resolved.order).evaluations,
        record.replay_order(resolved.order).gradient_engine,
    )


def test_a_setting_has_tensorflow_compute_a_version_that_onnx_runtime_could(diabetes_artifact: Artifact) -> None:
    rows = diabetes_artifact.background[0][:3]

    engines = [
        LoadedVersion(diabetes_artifact, Courtesy(), rules).engine
        for rules in (EngineRules("tensorflow"), EngineRules())
    ]

    assert ["tensorflow", "onnxruntime"] == [engine.name for engine in engines]
    np.testing.assert_allclose(*(engine.evaluate(rows, "value") for engine in engines), rtol=1e-5)
