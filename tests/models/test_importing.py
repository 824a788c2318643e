"""A user's own .keras file: refused where it could do harm or does not fit, else a version like any other."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from models.artifact import open_artifact
from models.building import Reporter
from models.datasets import load_builtin, split_dataset
from models.errors import InvalidSpec, ModelDoesNotFit, NoDataset, UnsafeModelFile
from models.importing.keras_file import check_keras_file, check_weights
from models.importing.process import import_model
from models.importing.version import import_version
from models.importing.wiring import wire
from models.outputs import with_logit
from models.parts import rows_of_part
from models.signature import Feature, Signature
from models.spec.importing import ImportSpec, parse_import
from models.training import predict_raw

X = tuple(Feature(name, "numeric", (), (0.0, 1.0)) for name in "abcd")
VALUE = Signature(X, "regression", "y")
TWO = Signature(X, "classification", "y", ("no", "yes"))
THREE = Signature(X, "classification", "y", ("a", "b", "c"))
ROWS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
layers: Any = keras.layers


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "plain.keras"
    network(layers.Dense(3, activation="softmax")).save(path)
    return path


# The file.


def test_file_that_keras_wrote_is_taken(plain: Path) -> None:
    assert "Functional" == check_keras_file(plain)["class_name"]
    check_weights(plain)


def test_truncated_file_is_refused_with_the_cure(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "half.keras").write_bytes(plain.read_bytes()[: plain.stat().st_size // 2])

    with pytest.raises(
        UnsafeModelFile, match=r"no whole \.keras file \(a ZIP archive\).*Save it anew with model\.save"
    ):
        check_keras_file(tmp_path / "half.keras")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "no.keras").write_bytes(content)

    with pytest.raises(UnsafeModelFile, match="no whole"):
        check_keras_file(tmp_path / "no.keras")


def test_damaged_weights_are_refused(plain: Path, tmp_path: Path) -> None:
    content = bytearray(plain.read_bytes())
    with zipfile.ZipFile(plain) as archive:
        offset = archive.getinfo("model.weights.h5").header_offset
    content[offset + 2000] ^= 0xFF
    (tmp_path / "damaged.keras").write_bytes(content)

    with pytest.raises(UnsafeModelFile, match=r"model\.weights\.h5 is damaged|no whole"):
        check_keras_file(tmp_path / "damaged.keras")


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ({"../evil.py": b"1"}, r"holds '\.\./evil\.py'"),
        ({"/etc/passwd": b"1"}, r"holds '/etc/passwd'"),
        ({"model.py": b"1"}, r"holds 'model\.py'"),
        ({"assets/../../evil": b"1"}, r"holds 'assets/\.\./\.\./evil'"),
        ({"assets/bomb": b"\0" * 40_000_000}, r"unpacks from [\d,]+ to 4\d,\d{3},\d{3} bytes"),
        ({"config.json": b"{"}, r"config\.json is not JSON"),
        ({"config.json": b"[]"}, r"config\.json describes no model"),
        ({"config.json": b" " * (17 * 2**20)}, r"config\.json has more than|unpacks from"),
        ({"metadata.json": None}, r"does not hold metadata\.json once"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_archive_with_what_no_model_holds_is_refused(
    entries: dict[str, bytes | None], fault: str, plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsafeModelFile, match=fault):
        check_keras_file(repacked(plain, tmp_path, entries))


def test_lambda_is_refused_by_its_name(tmp_path: Path) -> None:
    network(layers.Lambda(lambda x: x[:, :1], name="mine")).save(tmp_path / "lambda.keras")

    with pytest.raises(UnsafeModelFile, match=r"Lambda layer 'mine' holds code.*Build it from Keras's own layers"):
        check_keras_file(tmp_path / "lambda.keras")


def test_nested_lambda_is_found(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x * 2, name="deep")])
    network(layers.Dense(3), inner).save(tmp_path / "nested.keras")

    with pytest.raises(UnsafeModelFile, match="Lambda layer 'deep'"):
        check_keras_file(tmp_path / "nested.keras")


def test_class_of_the_users_own_is_refused(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("mine")
    class Doubled(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2

    network(layers.Dense(1), Doubled()).save(tmp_path / "own.keras")

    with pytest.raises(UnsafeModelFile, match=r"is a class of your own \(mine>Doubled\)"):
        check_keras_file(tmp_path / "own.keras")


@pytest.mark.parametrize(
    "module", ["os", "keras.utils", "builtins.eval", "kerasx.layers", "keras.src.utils.file_utils"]
)
def test_configuration_that_names_other_code_is_refused(module: str, plain: Path, tmp_path: Path) -> None:
    def name_it(config: dict[str, Any]) -> None:
        config["config"]["layers"][1] |= {"module": module, "class_name": "get_file"}

    with pytest.raises(UnsafeModelFile, match=f"comes from {module}, which is not Keras's"):
        check_keras_file(reconfigured(plain, tmp_path, name_it))


def test_loss_of_the_users_own_is_not_loaded_and_does_not_matter(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("mine")
    def my_loss(truth: Any, outputs: Any) -> Any:
        return keras.ops.mean(truth - outputs)

    model = network(layers.Dense(1))
    model.compile(loss=my_loss)
    model.save(tmp_path / "compiled.keras")

    check_keras_file(tmp_path / "compiled.keras")


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/hostname", "/")), "link //x elsewhere"),
        (lambda file: file.__setitem__("x", h5py.SoftLink("/layers")), "link //x elsewhere"),
        (
            lambda file: file.create_dataset("x", (4,), "u1", external=[("/etc/hostname", 0, 4)]),
            "/x are in another file",
        ),
        (lambda file: file.create_dataset("x", (2**40,), "f4", chunks=(1024,)), "unpack to more than"),
    ],
)
def test_weights_that_lead_elsewhere_or_unpack_without_bounds_are_refused(
    spoil: Callable[[Any], Any], fault: str, plain: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(plain) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        spoil(file)

    with pytest.raises(UnsafeModelFile, match=fault):
        check_weights(repacked(plain, tmp_path, {"model.weights.h5": content.getvalue()}))


# What it takes and gives.


@pytest.mark.parametrize(
    ("last", "signature"),
    [
        (lambda: [layers.Dense(3, activation="softmax")], THREE),
        (lambda: [layers.Dense(3), layers.Softmax()], THREE),
        (lambda: [layers.Dense(3), layers.Activation("softmax")], THREE),
        (lambda: [layers.Dense(1, activation="sigmoid")], TWO),
        (lambda: [layers.Dense(2, activation="softmax")], TWO),
        (lambda: [layers.Dense(1)], VALUE),
        (lambda: [layers.Dense(3, activation="softmax", name="output")], THREE),
        (lambda: [layers.Dense(3, activation="softmax"), layers.Dropout(0.1)], THREE),
    ],
)
def test_wired_model_gives_what_the_users_gave_and_its_log_odds(
    last: Callable[[], list[Any]], signature: Signature
) -> None:
    model = network(*last())
    expected = predict_raw(model, ROWS)

    wired, _ = wire(model, signature, "probabilities", ROWS)

    found = predict_raw(with_logit(wired, signature), ROWS)
    if expected.shape[1] == 2:
        expected = expected[:, 1:]
    np.testing.assert_allclose(found["output"], expected, atol=2e-6)
    if signature.task == "classification":
        np.testing.assert_allclose(found["logit"], np.log(expected / (1 - expected)), atol=1e-4)


def test_logits_are_given_their_softmax() -> None:
    model = network(layers.Dense(3))

    wired, notes = wire(model, THREE, "logits", ROWS)

    logits = predict_raw(model, ROWS).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict_raw(wired, ROWS), expected, atol=1e-6)
    assert [] == notes


def test_log_odds_of_a_confident_model_do_not_saturate_where_its_linear_layer_is_found() -> None:
    model = network(layers.Dense(1, activation="sigmoid"))
    model.layers[-1].set_weights([weights * 500 for weights in model.layers[-1].get_weights()])

    wired, notes = wire(model, TWO, "probabilities", ROWS)

    assert np.abs(predict_raw(with_logit(wired, TWO), ROWS)["logit"]).max() > 40
    assert [] == notes


def test_log_odds_from_probabilities_alone_are_finite_and_said_to_be_so() -> None:
    first = network(layers.Dense(1, activation="sigmoid"))
    first.layers[-1].set_weights([weights * 500 for weights in first.layers[-1].get_weights()])
    model = keras.Sequential([keras.Input((4,)), first, layers.Dropout(0.5)])

    wired, notes = wire(model, TWO, "probabilities", ROWS)

    logits = predict_raw(with_logit(wired, TWO), ROWS)["logit"]
    assert np.isfinite(logits).all()
    assert 15 < np.abs(logits).max() < 17
    assert "Log-odds are taken from the probabilities" in notes[0]


@pytest.mark.parametrize(
    ("model", "signature", "outputs", "expected", "received"),
    [
        (lambda: network(layers.Dense(2)), THREE, "logits", r"\(3,\) for 3 labels", r"output of shape \(2,\)"),
        (lambda: network(layers.Dense(2)), VALUE, "probabilities", r"\(1,\) for one target", r"shape \(2,\)"),
        (lambda: network(layers.Dense(3)), THREE, "probabilities", "probabilities from 0 to 1", "outputs from -"),
        (
            lambda: network(layers.Dense(3, activation="sigmoid")),
            THREE,
            "probabilities",
            "probabilities that sum to 1",
            r"rows whose outputs sum to .*End it in a softmax layer",
        ),
        (lambda: network(layers.Dense(3, activation="softmax")), THREE, "logits", "logits", "probabilities"),
        (lambda: network(layers.Reshape((3, 1))), THREE, "logits", r"\(3,\)", r"shape \(3, 1\)"),
        (
            lambda: network(layers.Dense(1), n_inputs=5),
            VALUE,
            "probabilities",
            r"shape \(4,\) \(a, b, c, d\)",
            r"\(5,\)",
        ),
        (
            lambda: two_ends(inputs=2),
            VALUE,
            "probabilities",
            "one input .* or several that share its columns",
            r"2 inputs: left \(4,\), right \(4,\).*model\(\[rows\[:, :1\], rows\[:, 1:\]\]\)",
        ),
        (lambda: words_in(), VALUE, "probabilities", "one input", "the input words of string"),
        (lambda: two_ends(outputs=2), VALUE, "probabilities", "one output", "2 outputs"),
        (lambda: keras.Sequential([layers.Dense(1)]), VALUE, "probabilities", "one input", "never built"),
        (lambda: not_a_number(), VALUE, "probabilities", "finite outputs", "NaN or infinity for 50 of 50 rows"),
        (
            lambda: mixing_rows(),
            VALUE,
            "probabilities",
            "nothing but the row",
            r"apart for a row alone and among 50.*axis=0",
        ),
    ],
)
def test_model_that_does_not_fit_is_refused_with_what_was_expected_and_received(
    model: Callable[[], Any], signature: Signature, outputs: Any, expected: str, received: str
) -> None:
    with pytest.raises(ModelDoesNotFit, match=f"expected .*{expected}.*, received .*{received}"):
        wire(model(), signature, outputs, ROWS)


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("c", "a", "d", "b"), "by its name: c takes c; a takes a; d takes d; b takes b."),
        (("p", "q", "r", "s"), "in the order of the features: p takes a; q takes b; r takes c; s takes d."),
    ],
)
def test_each_of_several_inputs_is_given_its_columns(names: tuple[str, ...], note: str, tmp_path: Path) -> None:
    rows = np.concatenate([ROWS[:, :3], np.arange(50)[:, np.newaxis] % 4], axis=1).astype(np.float32)
    by_name = "a" in names
    code = "d" if by_name else "s"
    entries = [keras.Input(() if name == code else (1,), name=name, dtype=kind(name, code)) for name in names]
    words = [layers.Embedding(4, 2)(entry) if entry.name == code else layers.Dense(2)(entry) for entry in entries]
    model = keras.Model(entries, layers.Dense(1)(layers.Concatenate()(words)))
    given = [rows[:, "abcd".index(name) if by_name else place] for place, name in enumerate(names)]
    expected = model(
        [one if entry.name == code else one[:, np.newaxis] for entry, one in zip(entries, given, strict=True)]
    )

    wired, notes = wire(model, VALUE, "probabilities", rows)
    wired.save(tmp_path / "wired.keras")

    found = predict_raw(keras.saving.load_model(tmp_path / "wired.keras"), rows)
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-6)
    assert [f"Each of its inputs is given columns {note}"] == notes


# In a process of its own.


def test_file_is_loaded_elsewhere_and_comes_back_wired(plain: Path, tmp_path: Path) -> None:
    imported = import_model(plain, THREE, "probabilities", ROWS, tmp_path)

    wired = keras.saving.load_model(imported.path, safe_mode=True)
    expected = predict_raw(keras.saving.load_model(plain), ROWS)
    np.testing.assert_allclose(predict_raw(wired, ROWS), expected, atol=2e-6)
    assert {"logit", "output"} <= {layer.name for layer in wired.layers}


def test_fault_that_is_found_there_is_told_here(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelDoesNotFit, match=r"\(1,\) for one target, received an output of shape \(3,\)"):
        import_model(plain, VALUE, "probabilities", ROWS, tmp_path)


def test_file_that_takes_too_long_is_given_up(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsafeModelFile, match=r"not loaded and run on 50 rows within 0\.1 s"):
        import_model(plain, THREE, "probabilities", ROWS, tmp_path, limit_seconds=0.1)


@pytest.mark.long
def test_layer_that_needs_more_memory_than_there_is_is_refused(plain: Path, tmp_path: Path) -> None:
    def enlarge(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["units"] = 10**11

    with pytest.raises(UnsafeModelFile, match=r"Keras does not load it|the process that loaded it"):
        import_model(reconfigured(plain, tmp_path, enlarge), THREE, "probabilities", ROWS, tmp_path)


# As a version.


def test_imported_file_becomes_a_version_that_is_evaluated_gated_and_exported(tmp_path: Path) -> None:
    file, trained = iris_file(tmp_path)
    spec = parse_import(
        {"model": "m", "file": "0" * 64, "dataset": {"builtin": "iris"}, "gates": {"min": {"accuracy": 0.5}}}
    )

    card = import_version(spec, file, tmp_path / "version", Reporter())

    version = open_artifact(tmp_path / "version")
    dataset = load_builtin("iris")
    split = split_dataset(dataset, test=0.2, validation=0.2)
    right = predict_raw(trained, dataset.inputs[split.test]).argmax(axis=1) == dataset.targets[split.test]
    assert pytest.approx(right.mean()) == card["evaluation"]["metrics"]["accuracy"]
    (gate,) = card["gates"]
    assert ("accuracy", True, 0.5) == (gate["gate"], gate["passed"], gate["limit"])
    assert "onnxruntime" == card["export"]["engine"]
    assert dataset.signature == version.signature
    assert len(split.train) == len(version.background[0])
    assert ["Imported: whether it has learned from the rows of the test part is not known."] == card["training"][
        "warnings"
    ]
    np.testing.assert_array_equal(dataset.inputs[split.test], rows_of_part(version, "test", max_rows=1000, seed=0))


@pytest.mark.long
def test_import_with_signature_and_rows_of_its_own_needs_no_data_set(tmp_path: Path) -> None:
    file, trained = iris_file(tmp_path)
    dataset = load_builtin("iris")
    given = {
        "features": [{"name": name} for name in dataset.signature.feature_names],
        "task": "classification",
        "target": "species",
        "labels": list(dataset.signature.labels),
        "background": dataset.inputs[::10].tolist(),
    }
    tested = {
        "inputs": dataset.inputs[1::10].tolist(),
        "truth": [dataset.signature.labels[each] for each in dataset.targets[1::10]],
    }
    document = {"model": "m", "file": "0" * 64, "given": {**given, **tested}}

    card = import_version(parse_import(document), file, tmp_path / "version", Reporter())

    version = open_artifact(tmp_path / "version")
    right = predict_raw(trained, dataset.inputs[1::10]).argmax(axis=1) == dataset.targets[1::10]
    assert (15, pytest.approx(right.mean())) == (card["evaluation"]["rows"], card["evaluation"]["metrics"]["accuracy"])
    np.testing.assert_array_equal(dataset.inputs[::10], version.background[0])
    lowest, highest = version.signature.features[0].value_range
    assert (dataset.inputs[::10, 0].min(), dataset.inputs[::10, 0].max()) == (lowest, highest)
    with pytest.raises(NoDataset):
        rows_of_part(version, "test", max_rows=10, seed=0)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"given": None}, "#/dataset"),
        ({"dataset": {"builtin": "iris"}}, "#/dataset"),
        ({"target": "y"}, "#/target"),
        ({"architecture": {"type": "mlp", "layers": [8]}}, "#/architecture"),
        ({"gates": {"min": {"accuracy": 0.5}}}, "#/gates/min"),
        ({"gates": {"fidelity": True}}, "#/gates/fidelity"),
        ({"gates": {"min": {"r2": 0.5}}}, "#/gates/min/r2"),
        ({"given.labels": ["a"]}, "#/given/labels"),
        ({"given.labels": ["a", "a"]}, "#/given/labels"),
        ({"given.task": "regression"}, "#/given/labels"),
        ({"given.background": [[1.0, "x"]]}, "#/given/background/0/1"),
        ({"given.background": []}, "#/given/background"),
        ({"given.inputs": [[1.0, 2.0]]}, "#/given/truth"),
        ({"given.inputs": [[1.0, 2.0]], "given.truth": ["z"]}, "#/given/truth/0"),
        ({"given.features": [{"name": "x"}, {"name": "x"}]}, "#/given/features"),
        ({"given.features": [{"name": "x", "kind": "image", "shape": [2]}]}, "#/given/features/0/shape"),
        ({"file": "x"}, "#/file"),
        ({"outputs": "both"}, "#/outputs"),
    ],
    ids=str,
)
def test_fault_of_what_is_asked_is_named_in_its_place(change: dict[str, Any], place: str) -> None:
    document: dict[str, Any] = {
        "model": "m",
        "file": "0" * 64,
        "given": {
            "features": [{"name": "x"}, {"name": "z"}],
            "task": "classification",
            "target": "y",
            "labels": ["a", "b"],
            "background": [[1.0, 2.0], [3.0, 4.0]],
        },
    }
    for name, value in change.items():
        head, _, key = name.partition(".")
        if key:
            document[head][key] = value
        else:
            document[head] = value

    with pytest.raises(InvalidSpec) as refusal:
        parse_import(document)

    assert place in [fault.pointer for fault in refusal.value.faults]


def test_specification_that_is_filled_in_parses_to_itself() -> None:
    spec = parse_import({"model": "m", "file": "0" * 64, "dataset": {"builtin": "breast_cancer"}})

    assert isinstance(spec, ImportSpec)
    assert ("diagnosis", "benign") == (spec.target, spec.positive_label)
    assert spec == parse_import(spec.model_dump(mode="json"))


def network(*last: Any, n_inputs: int = 4) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((n_inputs,))
    hidden = layers.Dense(3, activation="tanh")(inputs)
    for layer in last:
        hidden = layer(hidden)
    return keras.Model(inputs, hidden)


def two_ends(*, inputs: int = 1, outputs: int = 1) -> Any:
    entries = [keras.Input((4,), name=name) for name in ("left", "right")[:inputs]]
    joined = entries[0] if inputs == 1 else layers.Add()(entries)
    results = [layers.Dense(1)(joined) for _ in range(outputs)]
    return keras.Model(entries, results)


def kind(name: str, code: str) -> str:
    return "int32" if name == code else "float32"


def words_in() -> Any:
    entry = keras.Input((4,), dtype="string", name="words")
    return keras.Model(entry, layers.Dense(1)(layers.Embedding(5, 2)(layers.Hashing(5)(entry))[:, 0]))


def mixing_rows() -> Any:
    """A mistake: each column is compared with those of the other rows, which while serving are of other requests."""
    entry = keras.Input((4,))
    operations: Any = keras.ops
    return keras.Model(entry, layers.Dense(1)(entry - operations.mean(entry, axis=0, keepdims=True)))


def not_a_number() -> Any:
    model = network(layers.Dense(1))
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    return model


def iris_file(folder: Path) -> tuple[Path, Any]:
    """A model that a user might have trained, in raw units, with its normalization inside."""
    dataset = load_builtin("iris")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    normalization = layers.Normalization()
    normalization.adapt(dataset.inputs)
    hidden = layers.Dense(16, activation="gelu")(normalization(inputs))
    model: Any = keras.Model(inputs, layers.Dense(3, activation="softmax")(hidden))
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy")
    model.fit(dataset.inputs, dataset.targets, epochs=10, verbose=0)
    model.save(folder / "iris.keras")
    return folder / "iris.keras", model


def repacked(plain: Path, folder: Path, entries: dict[str, bytes | None]) -> Path:
    """A copy of a file with other entries; None leaves one out."""
    path = folder / "repacked.keras"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in entries:
                new.writestr(name, old.read(name))
        for name, content in entries.items():
            if content is not None:
                new.writestr(name, content)
    return path


def reconfigured(plain: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    with zipfile.ZipFile(plain) as archive:
        config = json.loads(archive.read("config.json"))
    change(config)
    return repacked(plain, folder, {"config.json": json.dumps(config).encode()})
