"""Learning rates and early stopping, by hand."""

import pytest

from models.schedule import EarlyStopping, LearningRate, first_rate
from models.spec.fitting import FitSpec


def rates(losses: list[float], **training: object) -> list[float]:
    rate: LearningRate = first_rate(FitSpec.model_validate({"learning_rate": 0.8, "epochs": 4, **training}))
    given = [rate.rate]
    for loss in losses:
        rate = rate.after(loss)
        given.append(rate.rate)
    return given


def test_without_a_schedule_the_rate_stays() -> None:
    assert [0.8, 0.8, 0.8] == rates([1.0, 2.0])


def test_cosine_falls_from_the_first_rate_to_0_after_the_last_epoch() -> None:
    assert pytest.approx([0.8, 0.6828427, 0.4, 0.1171573, 0.0]) == rates([1.0] * 4, schedule={"type": "cosine"})


def test_plateau_halves_the_rate_after_epochs_without_improvement_and_then_waits_again() -> None:
    losses = [5.0, 6.0, 4.0, 4.0, 4.5, 4.1, 4.2, 3.0]

    given = rates(losses, schedule={"type": "plateau", "factor": 0.5, "patience": 2})

    # Better, worse, better: the wait begins anew. Equal and worse: halved. Worse twice more: halved again. Better.
    assert [0.8, 0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2] == given


def test_exponential_multiplies_after_every_epoch_and_step_after_every_few() -> None:
    exponential = rates([1.0] * 3, schedule={"type": "exponential", "factor": 0.5})
    step = rates([1.0] * 4, schedule={"type": "step", "factor": 0.5, "every": 2})

    assert pytest.approx([0.8, 0.4, 0.2, 0.1]) == exponential
    assert pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2]) == step


def test_warm_up_rises_evenly_to_where_the_schedule_begins() -> None:
    constant = rates([1.0] * 4, warmup_epochs=3)
    cosine = rates([1.0] * 3, epochs=3, warmup_epochs=1, schedule={"type": "cosine"})

    assert pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8]) == constant
    assert pytest.approx([0.4, 0.8, 0.4, 0.0]) == cosine


@pytest.mark.parametrize(("patience", "stops_after"), [(1, 2), (2, 5), (None, None)])
def test_fit_stops_as_many_epochs_after_the_best_as_it_has_patience(
    patience: int | None, stops_after: int | None
) -> None:
    state, stopped = EarlyStopping(patience), None
    for loss in [5.0, 6.0, 4.0, 4.0, 4.5, 3.0]:
        state = state.after(loss)
        stopped = stopped or (state.epoch if state.stops else None)

    assert stops_after == stopped
    assert (6, 6, 3.0, True) == (state.epoch, state.best_epoch, state.best_loss, state.improved)
