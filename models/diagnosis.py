"""What went wrong in a fit that ended, in words: a pure function of its curves and of its layers' statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

VANISHING = 1e-4
"""Largest gradient of the first layer, as a part of that of the layer with the largest, that counts as vanished."""
NO_GRADIENT = 1e-9
"""Below this no layer learns anything."""
EXPLODING = 100.0
"""Smallest root mean square of a gradient that counts as exploded: targets are standardized, inputs scaled."""
DEAD = 0.5
"""The part of a layer's units from which on it is said that they are dead, or of its values that they are saturated."""
OVERFITTING = 0.2
"""The rise of the validation loss above its best, as a part of it, that counts."""
CONVERGING = 0.01
"""The fall of the validation loss over the last tenth of the epochs, as a part of it, that counts as going on."""


LayerFigures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EpochStatistics:
    """The statistics of each layer by name, in the order of the network, after an epoch (from 1)."""

    epoch: int
    layers: Mapping[str, LayerFigures]


def warnings_of(
    history: Mapping[str, Sequence[float]],
    statistics: Sequence[EpochStatistics],
    *,
    epochs: int,
    best_epoch: int,
    stopped_early: bool,
) -> tuple[str, ...]:
    """What a person should know of a fit, each with its cure.

    Args:
        history: for each epoch, `loss` and `val_loss` at least.
        epochs: those that the specification allows.
        best_epoch: counted from 1; its weights were kept.
    """
    if not history:
        return ()
    return (
        *_of_gradients(statistics),
        *_of_activations(statistics, best_epoch),
        *_of_losses(history["loss"], history["val_loss"], best_epoch),
        *([] if stopped_early else _of_the_end(history["val_loss"], epochs)),
    )


def _of_gradients(statistics: Sequence[EpochStatistics]) -> Iterator[str]:
    for each in statistics:
        gradients = {name: figures["gradient"] for name, figures in each.layers.items() if "gradient" in figures}
        name = max(gradients, key=gradients.__getitem__, default=None)
        if name is not None and gradients[name] > EXPLODING:
            yield (
                f"Exploding gradients: in epoch {each.epoch} the gradient of layer {name} is {gradients[name]:.3g} "
                '(root mean square). Set training.gradient_clip to {"type": "norm"}, or lower the learning rate.'
            )
            break
    vanished = []
    for each in statistics:
        by_layer = [(name, figures["gradient"]) for name, figures in each.layers.items() if "gradient" in figures]
        if len(by_layer) > 1:
            largest = max(gradient for _, gradient in by_layer)
            first_name, first = by_layer[0]
            if largest < NO_GRADIENT or first < VANISHING * largest:
                vanished.append((each.epoch, first_name, first))
    if len(vanished) * 2 > len(statistics):
        epoch, name, gradient = vanished[0]
        yield (
            f"Vanishing gradients: from epoch {epoch} on the gradient of the first layer, {name}, is {gradient:.1g}, "
            f"less than {VANISHING:g} of the largest. Use relu, fewer layers, normalization, or residual blocks."
        )


def _of_activations(statistics: Sequence[EpochStatistics], best_epoch: int) -> Iterator[str]:
    kept = [each for each in statistics if each.epoch <= best_epoch]
    for name, figures in kept[-1].layers.items() if kept else ():
        if (dead := figures.get("dead", 0.0)) >= DEAD:
            yield (
                f"Dead units: {dead:.0%} of the units of layer {name} are 0 for every row that was looked at. Lower "
                "training.learning_rate, use leaky-relu or gelu, or fewer units."
            )
        if (saturated := figures.get("saturated", 0.0)) >= DEAD:
            yield (
                f"Saturated units: {saturated:.0%} of the values of layer {name} are at the ends of its activation. "
                "Lower training.learning_rate, or use relu or gelu."
            )


def _of_losses(losses: Sequence[float], validation: Sequence[float], best_epoch: int) -> Iterator[str]:
    best, last = validation[best_epoch - 1], validation[-1]
    if last > best + OVERFITTING * abs(best) and losses[-1] < losses[best_epoch - 1]:
        yield (
            f"Overfitting: after epoch {best_epoch} the loss fell to {losses[-1]:.3g}, while that of the validation "
            f"part rose from {best:.3g} to {last:.3g}. The weights of epoch {best_epoch} were kept. More rows, a "
            "smaller network, or more regularization (dropout, l2, augmentation) would let it learn for longer."
        )


def _of_the_end(validation: Sequence[float], epochs: int) -> Iterator[str]:
    if len(validation) < epochs:
        return
    span = max(len(validation) // 10, 1)
    if len(validation) == 1:
        yield "Not converged: there was one epoch only. Raise training.epochs."
        return
    before, now = min(validation[:-span]), min(validation)
    if now < before - CONVERGING * abs(before):
        yield (
            f"Not converged: in the last {f'{span} epochs' if span > 1 else 'epoch'} of {epochs} the validation loss "
            f"still fell from {before:.3g} to {now:.3g}. Raise training.epochs, or training.learning_rate."
        )
