"""A training specification is filled in, or every fault of it is named."""

from typing import Any

import pytest

from models.builtins import BUILTINS
from models.errors import Fault, InvalidSpec
from models.evaluation.names import MORE_IS_BETTER
from models.spec import parse_spec

IRIS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


@pytest.mark.parametrize("builtin", BUILTINS)
def test_every_builtin_needs_no_more_than_its_name(builtin: str) -> None:
    spec = parse_spec(document(builtin))

    assert BUILTINS[builtin].target == spec.target
    assert spec.architecture is not None


def test_every_default_is_filled_in() -> None:
    spec = parse_spec(document("breast_cancer"))

    assert spec.model_dump(mode="json") == {
        "model": "m",
        "dataset": {"builtin": "breast_cancer"},
        "target": "diagnosis",
        "task": "classification",
        "features": {},
        "positive_label": "benign",
        "sensitive": [],
        "split": {"test": 0.2, "validation": 0.2, "by": "row"},
        "preprocessing": {
            "scaling": "standard",
            "missing": "indicator",
            "outliers": "none",
            "categorical": "auto",
            "unseen": "auto",
            "rare": 5,
            "max_categories": 1000,
            "hash_buckets": 64,
            "embedding": None,
            "dates": None,
            "text": {"words": 10_000, "length": 64, "width": 16},
            "image": {"resize": None, "rescale": "unit"},
            "features": {},
        },
        "architecture": {"type": "mlp", "layers": [64, 32], "activation": "relu", "normalization": None},
        "regularization": {"dropout": 0.2, "l1": 0.0, "l2": 1e-4, "label_smoothing": 0.0, "augmentation": []},
        "training": {
            "loss": "auto",
            "optimizer": "adam",
            "momentum": None,
            "weight_decay": 0.0,
            "gradient_clip": None,
            "learning_rate": 1e-3,
            "schedule": None,
            "warmup_epochs": 0,
            "epochs": 50,
            "batch_size": 32,
            "early_stopping": {"patience": 5},
            "class_weight": None,
            "mixed_precision": False,
            "folds": 0,
            "calibration": None,
            "seed": 0,
        },
        "search": None,
        "background": {"rows": 100, "kind": "sample"},
        "gates": {
            "min": {},
            "max": {},
            "not_worse_than_champion": None,
            "fidelity": None,
            "calibration": None,
            "fairness": None,
            "latency": None,
        },
        "signature": "same",
        "promote": "if-gates-pass",
        "from": None,
        "warm_start": False,
        "priority": "normal",
        "limits": {"minutes": None, "memory_mib": None},
    }


def test_images_get_a_convolutional_network_and_many_labels_no_positive_one() -> None:
    spec = parse_spec(document("digits"))

    assert spec.architecture is not None
    assert "cnn" == spec.architecture.type
    assert spec.positive_label is None


def test_filled_in_specification_parses_to_itself() -> None:
    spec = parse_spec(document("digits", training={"epochs": 3, "early_stopping": None}, gates={"min": {"f1": 0.5}}))

    again = parse_spec(spec.model_dump(mode="json"))

    assert spec == again


@pytest.mark.parametrize(
    ("keys", "where", "hint"),
    [
        ({"traning": {}}, "#/traning", "unknown key; did you mean 'training'?"),
        ({"training": {"epoch": 3}}, "#/training/epoch", "unknown key; did you mean 'epochs'?"),
        (
            {"training": {"early_stopping": {"patiance": 3}}},
            "#/training/early_stopping/patiance",
            "unknown key; did you mean 'patience'?",
        ),
        (
            {"architecture": {"type": "mlp", "layers": [8], "activaton": "relu"}},
            "#/architecture/activaton",
            "unknown key; did you mean 'activation'?",
        ),
        ({"colour": "red"}, "#/colour", "unknown key"),
        ({"a/b": 1}, "#/a~1b", "unknown key"),
    ],
)
def test_unknown_key_is_refused_with_its_nearest_match(keys: dict[str, Any], where: str, hint: str) -> None:
    (fault,) = faults_of(document("iris", **keys))

    assert (where, hint) == (fault.pointer, fault.detail)
    assert fault.expected.startswith("one of ")


@pytest.mark.parametrize("name", ["int", "str", "list[int]"])
def test_unknown_key_named_like_a_type_is_refused_like_any_other(name: str) -> None:
    """Such a key was taken for the branch of a union and cut from its own place."""
    (fault,) = faults_of(document("iris", **{name: 1}))

    assert (f"#/{name}", "unknown key") == (fault.pointer, fault.detail)


def test_feature_named_like_a_type_keeps_its_place() -> None:
    (fault,) = faults_of(document("iris", features={"int": "whole"}))

    assert "#/features/int" == fault.pointer


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"training": {"epochs": "5"}}, Fault("#/training/epochs", "a valid integer", "the string '5'")),
        ({"training": {"epochs": 5.5}}, Fault("#/training/epochs", "a valid integer", "the number 5.5")),
        ({"training": {"epochs": True}}, Fault("#/training/epochs", "a valid integer", "the boolean true")),
        ({"training": {"epochs": 0}}, Fault("#/training/epochs", "greater than or equal to 1", "the number 0")),
        (
            {"training": {"optimizer": "adamm"}},
            Fault("#/training/optimizer", "'adam', 'adamw', 'rmsprop' or 'sgd'", "the string 'adamm'"),
        ),
        ({"training": None}, Fault("#/training", "an object", "null")),
        ({"regularization": {"dropout": 1}}, Fault("#/regularization/dropout", "less than 1", "the number 1")),
        ({"split": {"test": 0}}, Fault("#/split/test", "greater than 0", "the number 0")),
        ({"model": None}, Fault("#/model", "a valid string", "null")),
        ({"background": {"rows": [1, 2]}}, Fault("#/background/rows", "a valid integer", "a list of 2 values")),
        (
            {"architecture": {"type": "mlp", "layers": [8, 0]}},
            Fault("#/architecture/layers/1", "greater than or equal to 1", "the number 0"),
        ),
    ],
)
def test_value_of_the_wrong_type_or_size_is_refused(keys: dict[str, Any], expected: Fault) -> None:
    assert expected in faults_of(document("iris", **keys))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "plateau"}, {"type": "plateau", "factor": 0.5, "patience": 3}),
        ({"type": "plateau", "factor": 0.1}, {"type": "plateau", "factor": 0.1, "patience": 3}),
        ({"type": "cosine"}, {"type": "cosine"}),
        ({"type": "exponential"}, {"type": "exponential", "factor": 0.95}),
        ({"type": "step"}, {"type": "step", "factor": 0.5, "every": 10}),
    ],
)
def test_defaults_of_a_schedule_are_filled_in_and_parse_to_themselves(given: Any, expected: Any) -> None:
    spec = parse_spec(document("iris", training={"schedule": given}))

    filled = spec.model_dump(mode="json")
    assert expected == filled["training"]["schedule"]
    assert spec == parse_spec(filled)


@pytest.mark.parametrize(
    ("given", "place", "expected", "received"),
    [
        ({"type": "linear"}, "/type", "'cosine', 'plateau', 'exponential' or 'step'", "the string 'linear'"),
        ({"type": 3}, "/type", "'cosine', 'plateau', 'exponential' or 'step'", "the number 3"),
        ({"factor": 0.5}, "/type", "a value", "nothing"),
        ("cosine", "", "an object", "the string 'cosine'"),
        ({"type": "cosine", "factor": 0.5}, "/factor", "one of type", "the number 0.5"),
        ({"type": "plateau", "factr": 0.5}, "/factr", "one of type, factor, patience", "the number 0.5"),
        ({"type": "plateau", "factor": 1}, "/factor", "less than 1", "the number 1"),
        ({"type": "plateau", "patience": 0}, "/patience", "greater than or equal to 1", "the number 0"),
    ],
)
def test_fault_of_a_schedule_is_named_in_its_place(given: Any, place: str, expected: str, received: str) -> None:
    (fault,) = faults_of(document("iris", training={"schedule": given}))

    assert (f"#/training/schedule{place}", expected, received) == (fault.pointer, fault.expected, fault.received)


def test_wrong_layer_is_the_only_fault_of_a_list_of_layers() -> None:
    """pydantic adds that the list is too short, counting the right layers only."""
    faults = faults_of(document("iris", architecture={"type": "mlp", "layers": ["8", 0]}))

    assert ["#/architecture/layers/0", "#/architecture/layers/1"] == [fault.pointer for fault in faults]


@pytest.mark.parametrize("name", ["", "Digits", "-digits", "di_gits", "a" * 64, "ziffern/2", "é"])
def test_model_name_outside_the_alphabet_is_refused(name: str) -> None:
    (fault,) = faults_of(document("iris", model=name))

    assert "#/model" == fault.pointer


@pytest.mark.parametrize("name", ["a", "7", "breast-cancer", "a" * 63])
def test_model_name_within_the_alphabet_is_accepted(name: str) -> None:
    assert name == parse_spec(document("iris", model=name)).model


@pytest.mark.parametrize(("given", "received"), [([], "a list of 0 values"), ("x", "the string 'x'"), (None, "null")])
def test_specification_that_is_no_object_is_refused(given: Any, received: str) -> None:
    assert [Fault("#", "an object", received)] == faults_of(given)


def test_missing_keys_are_all_named() -> None:
    faults = faults_of({})

    assert ["#/model", "#/dataset"] == [fault.pointer for fault in faults]
    assert {("nothing", "this key is required")} == {(fault.received, fault.detail) for fault in faults}


@pytest.mark.parametrize(
    ("builtin", "keys", "expected"),
    [
        pytest.param(
            "mnist",
            {},
            Fault(
                "#/dataset/builtin",
                "one of digits, breast_cancer, diabetes, wine, iris",
                "the string 'mnist'",
                "no such data set",
            ),
            id="unknown built-in",
        ),
        pytest.param(
            "iris",
            {"architecture": {"type": "cnn", "layers": [8]}},
            Fault("#/architecture/type", "'mlp' for columns", "the string 'cnn'"),
            id="convolutions on columns",
        ),
        pytest.param("iris", {"target": "kind"}, Fault("#/target", "'species'", "the string 'kind'"), id="bad target"),
        pytest.param(
            "breast_cancer",
            {"positive_label": "ill"},
            Fault("#/positive_label", "one of malignant, benign", "the string 'ill'"),
            id="bad positive label",
        ),
        pytest.param(
            "iris",
            {"positive_label": "setosa"},
            Fault("#/positive_label", "nothing: not two labels", "the string 'setosa'"),
            id="positive label of three",
        ),
        pytest.param(
            "iris",
            {"gates": {"min": {"r2": 0.5}}},
            Fault(
                "#/gates/min/r2",
                f"a metric of a classification: {', '.join(MORE_IS_BETTER['classification'])}",
                "an unknown metric",
            ),
            id="gate on a regression's metric",
        ),
        pytest.param(
            "diabetes",
            {"gates": {"min": {"accuracy": 0.5}}},
            Fault("#/gates/min/accuracy", "a metric of a regression: r2", "an unknown metric"),
            id="gate on a classification's metric",
        ),
        pytest.param(
            "iris",
            {"split": {"test": 0.5, "validation": 0.5}},
            Fault("#/split", "test + validation below 1", "1 together"),
            id="nothing left to train on",
        ),
        pytest.param(
            "iris",
            {"split": {"by": "species"}},
            Fault("#/split/by", "one of row, " + ", ".join(IRIS), "the string 'species'"),
            id="split by no column",
        ),
        pytest.param(
            "digits",
            {"split": {"by": "image"}},
            Fault("#/split/by", "one of row", "the string 'image'"),
            id="split by an image",
        ),
        pytest.param(
            "iris",
            {"features": {"petals": "ignore"}},
            Fault("#/features/petals", "a feature of the data set: " + ", ".join(IRIS), "an unknown name"),
            id="unknown feature",
        ),
        pytest.param(
            "wine",
            {"features": {"od280/od315_of_diluted_wines": "image"}},
            Fault(
                "#/features/od280~1od315_of_diluted_wines", "'numeric', 'categorical' or 'ignore'", "the string 'image'"
            ),
            id="column as an image",
        ),
        pytest.param(
            "iris",
            {"features": dict.fromkeys(IRIS, "ignore")},
            Fault("#/features", "at least one feature that is not ignored", "every feature ignored"),
            id="every feature ignored",
        ),
        pytest.param(
            "diabetes",
            {"training": {"class_weight": "balanced"}},
            Fault("#/training/class_weight", "null for a regression", "the string 'balanced'"),
            id="class weights of a regression",
        ),
    ],
)
def test_specification_that_does_not_fit_its_data_is_refused(
    builtin: str, keys: dict[str, Any], expected: Fault
) -> None:
    assert [expected] == faults_of(document(builtin, **keys))


def test_all_misfits_are_named_at_once_and_in_the_message() -> None:
    given = document("iris", target="kind", positive_label="setosa", gates={"min": {"r2": 1}})

    with pytest.raises(InvalidSpec) as refusal:
        parse_spec(given)

    assert ["#/target", "#/positive_label", "#/gates/min/r2"] == [fault.pointer for fault in refusal.value.faults]
    assert "#/target: expected 'species', received the string 'kind'" in str(refusal.value)


def document(builtin: str, **keys: Any) -> dict[str, Any]:
    return {"model": "m", "dataset": {"builtin": builtin}, **keys}


def faults_of(given: Any) -> list[Fault]:
    with pytest.raises(InvalidSpec) as refusal:
        parse_spec(given)
    return list(refusal.value.faults)
