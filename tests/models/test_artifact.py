"""A version as files: whole or not there, refused when damaged, and loadable without us."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import artifact
from models.artifact import Artifact, open_artifact, write_json, writing
from models.errors import CorruptVersion, in_full

FILES = ("model.keras", "model.onnx", "signature.json", "background.npz", "card.json", "manifest.json")
ALL_VERSIONS = ("digits_artifact", "diabetes_artifact", "breast_cancer_artifact")

LOAD_WITHOUT_US = """
import sys
import keras
import numpy as np
for model, rows, outputs in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
    np.save(outputs, keras.saving.load_model(model)(np.load(rows), training=False))
ours = {"models", "explain", "service", "vitrine"} & set(sys.modules)
sys.exit(f"imported {ours}" if ours else 0)
"""

DIE_WHILE_WRITING = """
import os, sys
from pathlib import Path
from models.artifact import writing
with writing(Path(sys.argv[1])) as aside:
    (aside / "model.keras").write_bytes(b"half of it")
    os._exit(9)
"""


@pytest.fixture
def copied(diabetes_artifact: Artifact, tmp_path: Path) -> Path:
    """A version of its own for each test, to damage."""
    return Path(shutil.copytree(diabetes_artifact.directory, tmp_path / "version"))


@pytest.fixture(params=ALL_VERSIONS)
def version(request: pytest.FixtureRequest) -> Artifact:
    return request.getfixturevalue(request.param)


@pytest.mark.long
def test_version_loads_and_predicts_with_keras_alone(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from models.training import predict_raw

    versions = [request.getfixturevalue(name) for name in ALL_VERSIONS]
    arguments: list[str] = []
    for i, version in enumerate(versions):
        np.save(tmp_path / f"rows{i}.npy", version.background[0])
        arguments += [str(version.directory / "model.keras"), f"{tmp_path}/rows{i}.npy", f"{tmp_path}/outputs{i}.npy"]

    done = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT_US, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stderr[-2000:]
    for i, version in enumerate(versions):
        expected = predict_raw(version.load_keras(), version.background[0])
        np.testing.assert_allclose(np.load(tmp_path / f"outputs{i}.npy"), expected, rtol=1e-6, atol=1e-7)


def test_onnx_says_what_keras_says(version: Artifact) -> None:
    import onnxruntime

    from models.datasets import load_builtin
    from models.outputs import with_logit
    from models.training import predict_raw

    rows = load_builtin(version.card["data"]["dataset"]["builtin"]).inputs[:300]
    expected = predict_raw(with_logit(version.load_keras(), version.signature), rows)

    session = onnxruntime.InferenceSession(version.onnx_path, providers=["CPUExecutionProvider"])
    exported = dict(zip(expected, session.run(list(expected), {session.get_inputs()[0].name: rows}), strict=True))

    assert ("logit" in expected) == (version.signature.task == "classification")
    for name, values in expected.items():
        # Beyond the rows on which the export was accepted, a little room.
        assert (np.abs(exported[name] - values).max(axis=0) <= 2e-5 * values.std(axis=0)).all()


def test_version_holds_what_it_promises(version: Artifact) -> None:
    rows, weights = version.background

    files = {*FILES, *(f"gradient-{output}.onnx" for output in version.signature.outputs)}
    assert files == {path.name for path in version.directory.iterdir()}
    assert files - {"manifest.json"} == set(version.hashes)
    assert (100, *version.signature.input_shape) == rows.shape
    assert pytest.approx(1.0, abs=1e-12) == weights.sum()
    assert (weights > 0).all()
    assert set(version.signature.outputs) == set(version.card["spread"])
    assert "onnxruntime" == version.card["export"]["engine"]


def test_background_keeps_an_array_for_each_feature(diabetes_artifact: Artifact) -> None:
    with np.load(diabetes_artifact.directory / "background.npz", allow_pickle=False) as arrays:
        names = set(arrays)

    assert {*diabetes_artifact.signature.feature_names, "weights"} == names


def test_signature_survives_being_written(version: Artifact) -> None:
    from models.datasets import load_builtin

    assert load_builtin(version.card["data"]["dataset"]["builtin"]).signature == version.signature


@pytest.mark.parametrize("fault", ["changed", "truncated", "emptied", "missing"])
@pytest.mark.parametrize("name", [*FILES, "gradient-value.onnx"])
def test_damaged_file_is_refused_by_name(copied: Path, name: str, fault: str) -> None:
    damage(copied / name, fault)

    with pytest.raises(CorruptVersion) as refusal:
        open_artifact(copied)

    assert name == refusal.value.file
    assert name in str(refusal.value)
    assert str(copied) not in str(refusal.value)
    assert str(copied) in in_full(refusal.value)


def test_undamaged_copy_is_opened(copied: Path, diabetes_artifact: Artifact) -> None:
    assert diabetes_artifact.hashes == open_artifact(copied).hashes


@pytest.mark.parametrize("manifest", [[], {}, 7, None, {"sha256": None}, {"sha256": []}, {"sha256": [*FILES]}], ids=str)
def test_manifest_of_another_form_is_refused(copied: Path, manifest: Any) -> None:
    write_json(copied / "manifest.json", manifest)

    with pytest.raises(CorruptVersion):
        open_artifact(copied)


@pytest.mark.parametrize("name", ["model.keras", "signature.json", "background.npz", "card.json"])
def test_manifest_that_leaves_a_required_file_out_is_refused(copied: Path, name: str) -> None:
    hashes = dict(open_artifact(copied).hashes)
    del hashes[name]
    write_json(copied / "manifest.json", {"sha256": hashes})

    with pytest.raises(CorruptVersion, match="is not in the manifest") as refusal:
        open_artifact(copied)

    assert name == refusal.value.file


def test_onnx_file_that_the_manifest_does_not_name_is_not_served(copied: Path) -> None:
    hashes = dict(open_artifact(copied).hashes)
    del hashes["model.onnx"]
    write_json(copied / "manifest.json", {"sha256": hashes})

    assert open_artifact(copied).onnx_path is None


def test_folder_without_a_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptVersion, match=r"manifest\.json is missing"):
        open_artifact(tmp_path / "nowhere")


def test_model_that_holds_code_is_not_loaded(copied: Path) -> None:
    import keras

    inputs = keras.Input((10,))
    keras.Model(inputs, keras.layers.Lambda(lambda rows: rows * 2)(inputs)).save(copied / "model.keras")
    version = Artifact(copied, {})

    with pytest.raises(ValueError, match="Lambda"):
        version.load_keras()


def test_crash_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half_a_version(tmp_path / "job")

    assert [] == list(tmp_path.iterdir())


def test_crash_while_writing_again_leaves_the_earlier_version(copied: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half_a_version(copied)

    assert ["version"] == [path.name for path in copied.parent.iterdir()]
    assert copied == open_artifact(copied).directory


def test_killed_while_writing_there_is_no_version_and_the_next_attempt_succeeds(tmp_path: Path) -> None:
    directory = tmp_path / "job"
    killed = subprocess.run([sys.executable, "-c", DIE_WHILE_WRITING, str(directory)], check=False)
    assert 9 == killed.returncode
    assert not directory.exists()

    with writing(directory) as aside:
        assert [] == list(aside.iterdir())
        for name in (artifact.KERAS, artifact.SIGNATURE, artifact.BACKGROUND, artifact.CARD):
            (aside / name).write_bytes(name.encode())

    assert ["job"] == [path.name for path in tmp_path.iterdir()]
    assert directory == open_artifact(directory).directory


def test_a_whole_version_in_place_stays_when_an_overtaken_attempt_finishes_after_it(copied: Path) -> None:
    before = open_artifact(copied).hashes

    with writing(copied) as aside:
        write_another(aside)

    assert before == open_artifact(copied).hashes
    assert [copied.name] == [path.name for path in copied.parent.iterdir()]


def test_a_damaged_version_in_place_is_replaced(copied: Path) -> None:
    damage(copied / "model.keras", "truncated")

    with writing(copied) as aside:
        write_another(aside)

    assert b"second" == (copied / "model.keras").read_bytes()
    assert not (copied / "model.onnx").exists()


def write_another(aside: Path) -> None:
    for name in (artifact.KERAS, artifact.SIGNATURE, artifact.BACKGROUND, artifact.CARD):
        (aside / name).write_bytes(b"second")


def write_half_a_version(directory: Path) -> None:
    with writing(directory) as aside:
        (aside / "model.keras").write_bytes(b"half of it")
        raise ZeroDivisionError


def damage(path: Path, fault: str) -> None:
    content = path.read_bytes()
    match fault:
        case "changed":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "emptied":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
