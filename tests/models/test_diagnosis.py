"""What is said of a fit that ended: on curves and figures made by hand."""

import pytest

from models.diagnosis import EpochStatistics, warnings_of

QUIET = {"gradient": 0.1, "dead": 0.1, "saturated": 0.1}


def test_fit_in_which_nothing_is_wrong_has_no_warning() -> None:
    assert () == said([0.9, 0.5, 0.4, 0.4], [0.8, 0.5, 0.45, 0.45], best_epoch=3)


def test_validation_loss_that_rises_while_the_loss_falls_is_overfitting() -> None:
    (warning,) = said([0.9, 0.5, 0.3, 0.1], [0.8, 0.5, 0.6, 0.7], best_epoch=2, stopped_early=True)

    assert warning.startswith("Overfitting: after epoch 2 the loss fell to 0.1, while that of the validation part rose")
    assert "from 0.5 to 0.7. The weights of epoch 2 were kept." in warning


def test_both_losses_rising_is_not_overfitting() -> None:
    assert () == said([0.9, 0.5, 0.7, 0.8], [0.8, 0.5, 0.6, 0.7], best_epoch=2, stopped_early=True)


@pytest.mark.parametrize(
    ("validation", "epochs", "stopped_early", "warned"),
    [
        ([0.8, 0.6, 0.4], 3, False, True),
        ([0.8, 0.6, 0.4], 4, False, False),  # it goes on
        ([0.8, 0.6, 0.4], 3, True, False),
        ([0.8, 0.6, 0.598], 3, False, False),
        ([0.8], 1, False, True),
    ],
)
def test_loss_that_still_falls_at_the_last_epoch_has_not_converged(
    validation: list[float], epochs: int, stopped_early: bool, warned: bool
) -> None:
    found = said(validation, validation, best_epoch=len(validation), epochs=epochs, stopped_early=stopped_early)

    assert warned == any(warning.startswith("Not converged: ") for warning in found)


def test_gradients_beyond_the_limit_are_named_with_layer_and_epoch_once() -> None:
    calm = {"first": {"gradient": 1.0}, "logit": {"gradient": 2.0}}
    wild = {"first": {"gradient": 1.0}, "logit": {"gradient": 250.0}}

    found = of_layers([calm, wild, wild])

    assert 1 == len(found)
    assert "Exploding gradients: in epoch 2 the gradient of layer logit is 250" in found[0]


@pytest.mark.parametrize(("first", "warned"), [(1e-6, True), (1e-3, False)])
def test_first_layer_that_gets_next_to_nothing_has_vanishing_gradients(first: float, warned: bool) -> None:
    layers = {"first": {"gradient": first}, "logit": {"gradient": 0.5}}

    found = of_layers([layers] * 3)

    assert warned == any(text.startswith("Vanishing gradients: from epoch 1 on") for text in found)


def test_dead_and_saturated_units_of_the_kept_epoch_are_named() -> None:
    bad = {"hidden": {**QUIET, "dead": 0.75}, "other": {**QUIET, "saturated": 0.6}}

    found = of_layers([{"hidden": QUIET, "other": QUIET}, bad], best_epoch=2)
    of_the_first = of_layers([{"hidden": QUIET, "other": QUIET}, bad], best_epoch=1)

    assert ["Dead units: 75% of the units of layer hidden", "Saturated units: 60% of the values of layer other"] == [
        text.split(" are ")[0] for text in found
    ]
    assert () == of_the_first


def said(
    losses: list[float],
    validation: list[float],
    *,
    best_epoch: int,
    epochs: int | None = None,
    stopped_early: bool = False,
    statistics: tuple[EpochStatistics, ...] = (),
) -> tuple[str, ...]:
    return warnings_of(
        {"loss": losses, "val_loss": validation},
        statistics,
        epochs=epochs or len(losses),
        best_epoch=best_epoch,
        stopped_early=stopped_early,
    )


def of_layers(epochs: list[dict[str, dict[str, float]]], best_epoch: int = 1) -> tuple[str, ...]:
    statistics = tuple(EpochStatistics(number, layers) for number, layers in enumerate(epochs, start=1))
    flat = [0.5] * len(epochs)
    return said(flat, flat, best_epoch=best_epoch, epochs=100, statistics=statistics)
