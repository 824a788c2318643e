"""Losses, weights of rows and optimizers: each key has the effect that it names."""

from typing import Any

import keras
import numpy as np
import pytest

from models.errors import InvalidSpec
from models.facts import DataFacts
from models.objectives import loss_of, optimizer_of, row_weights, targets_of
from models.signature import Feature, Signature
from models.spec import parse_spec
from models.spec.fitting import FitSpec, filled_in
from models.spec.network import RegularizationSpec, regularization_misfits

X = (Feature("x", "numeric", (), (0.0, 1.0)),)
VALUE = Signature(X, "regression", "y")
TWO = Signature(X, "classification", "y", ("no", "yes"))
THREE = Signature(X, "classification", "y", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("auto", (0.25 + 9) / 2), ("mse", (0.25 + 9) / 2), ("mae", (0.5 + 3) / 2), ("huber", (0.125 + 2.5) / 2)],
)
def test_losses_of_a_regression_by_hand(loss: Any, expected: float) -> None:
    """Errors of 0.5 and 3 standard deviations."""
    value = loss_of(loss, 0.0, VALUE)(np.array([1.0, 1.0], np.float32), np.array([[1.5], [4.0]], np.float32))

    assert pytest.approx(expected) == float(value)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("signature", [TWO, THREE])
def test_smoothed_cross_entropy_is_that_with_the_mean_of_truth_and_even_odds(
    signature: Signature, smoothing: float
) -> None:
    n_labels = len(signature.labels)
    truth = np.array([0, 1, 1])
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3]])[:, :n_labels]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    units = probabilities[:, 1:] if n_labels == 2 else probabilities

    targets = targets_of(truth, signature, scale=(0.0, 1.0), label_smoothing=smoothing)
    value = float(loss_of("cross-entropy", smoothing, signature)(targets, units.astype(np.float32)))

    smooth = np.eye(n_labels)[truth] * (1 - smoothing) + smoothing / n_labels
    assert pytest.approx(-(smooth * np.log(probabilities)).sum(axis=1).mean(), rel=1e-4) == value


def test_targets_of_a_regression_are_standardized() -> None:
    targets = targets_of(np.array([100.0, 120.0]), VALUE, scale=(110.0, 10.0), label_smoothing=0.0)

    assert [-1.0, 1.0] == targets.tolist()


@pytest.mark.parametrize(
    ("class_weight", "expected"), [("balanced", [0.75, 0.75, 1.5]), ({"no": 2.0, "yes": 5.0}, [2.0, 2.0, 5.0])]
)
def test_rows_weigh_by_their_label(class_weight: Any, expected: list[float]) -> None:
    (weights,) = row_weights(class_weight, np.array([0, 0, 1]), TWO)

    assert expected == pytest.approx(weights.tolist())


def test_without_class_weights_there_are_no_row_weights() -> None:
    assert () == row_weights(None, np.array([0, 1]), TWO)


@pytest.mark.parametrize(
    ("training", "kind", "facts"),
    [
        ({}, "Adam", {"weight_decay": None}),
        ({"optimizer": "adamw"}, "AdamW", {"weight_decay": 0.004}),
        ({"optimizer": "adam", "weight_decay": 0.01}, "Adam", {"weight_decay": 0.01}),
        ({"optimizer": "sgd"}, "SGD", {"momentum": 0.9}),
        ({"optimizer": "sgd", "momentum": 0.5}, "SGD", {"momentum": 0.5}),
        ({"optimizer": "rmsprop", "momentum": 0.5}, "RMSprop", {"momentum": 0.5}),
        ({"gradient_clip": {"type": "norm", "limit": 2.0}}, "Adam", {"global_clipnorm": 2.0}),
        ({"gradient_clip": {"type": "value"}}, "Adam", {"clipvalue": 0.5}),
    ],
    ids=str,
)
def test_optimizer_is_made_as_it_is_specified(training: dict[str, Any], kind: str, facts: dict[str, Any]) -> None:
    optimizer: Any = optimizer_of(filled_in(FitSpec.model_validate(training)))

    assert kind == type(optimizer).__name__
    assert facts == {name: getattr(optimizer, name) for name in facts}


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (None, [-3.0, -4.0]),
        ({"type": "norm", "limit": 1.0}, [-0.6, -0.8]),
        ({"type": "value", "limit": 3.5}, [-3.0, -3.5]),
    ],
)
def test_gradients_are_clipped_before_the_step(clip: Any, expected: list[float]) -> None:
    training = filled_in(
        FitSpec.model_validate({"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0, "gradient_clip": clip})
    )
    weights = [keras.Variable([0.0]), keras.Variable([0.0])]

    optimizer_of(training).apply([np.array([3.0], np.float32), np.array([4.0], np.float32)], weights)

    assert expected == pytest.approx([float(weight.numpy()[0]) for weight in weights])


def test_text_takes_no_augmentation_and_a_series_takes_noise() -> None:
    noise = RegularizationSpec.model_validate({"augmentation": ({"type": "noise"},)})

    of_text, of_series = (
        list(regularization_misfits(noise, DataFacts("regression", "y", {"x": kind}))) for kind in ("text", "series")
    )

    assert ["#/regularization/augmentation"] == [fault.pointer for fault in of_text]
    assert [] == of_series


@pytest.mark.parametrize(
    ("builtin", "keys", "place"),
    [
        ("diabetes", {"training": {"loss": "cross-entropy"}}, "#/training/loss"),
        ("iris", {"training": {"loss": "mse"}}, "#/training/loss"),
        ("iris", {"training": {"loss": "binary-cross-entropy"}}, "#/training/loss"),
        ("breast_cancer", {"training": {"loss": "categorical-cross-entropy"}}, "#/training/loss"),
        ("iris", {"training": {"momentum": 0.5}}, "#/training/momentum"),
        ("iris", {"training": {"epochs": 3, "warmup_epochs": 3}}, "#/training/warmup_epochs"),
        ("iris", {"training": {"folds": 1}}, "#/training/folds"),
        ("iris", {"training": {"class_weight": {"setosa": 2.0}}}, "#/training/class_weight"),
        ("diabetes", {"training": {"class_weight": {"a": 2.0}}}, "#/training/class_weight"),
        ("diabetes", {"regularization": {"label_smoothing": 0.1}}, "#/regularization/label_smoothing"),
        ("iris", {"regularization": {"augmentation": [{"type": "flip"}]}}, "#/regularization/augmentation/0/type"),
        ("iris", {"architecture": {"type": "recurrent", "layers": [8]}}, "#/architecture/type"),
        ("digits", {"architecture": {"type": "cnn", "layers": [8], "heads": 2}}, "#/architecture/heads"),
    ],
    ids=str,
)
def test_keys_that_do_not_suit_the_task_or_each_other_are_refused_by_name(
    builtin: str, keys: dict[str, Any], place: str
) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        parse_spec({"model": "m", "dataset": {"builtin": builtin}, **keys})

    assert [place] == [fault.pointer for fault in refusal.value.faults]
