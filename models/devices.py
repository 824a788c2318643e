"""What a network is fitted on, in words, and how much memory it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.cores import usable_cores
from models.memory import available_bytes, resident_peak_bytes


@dataclass(frozen=True)
class Device:
    """`available_bytes` and `peak_bytes` are functions: what a device has left changes. None: it does not say."""

    name: str
    is_gpu: bool
    available_bytes: Callable[[], int | None]
    peak_bytes: Callable[[], int | None]


def describe_device() -> Device:
    """The first GPU, where there is one: TensorFlow then computes on it. Else the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return Device(f"CPU ({usable_cores()} cores)", False, available_bytes, resident_peak_bytes)
    details: dict[str, Any] = tf.config.experimental.get_device_details(gpus[0])

    def peak_bytes() -> int:
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]

    # How much of a GPU TensorFlow may still take, it does not say: a fit that is too large for one fails when it is.
    return Device(f"GPU ({details.get('device_name', gpus[0].name)})", True, lambda: None, peak_bytes)
