"""What the compute process is asked, and how its answers are settled."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.serving.compute_life import Life


@dataclass(eq=False, slots=True)
class Order:
    number: int
    kind: str
    payload: dict[str, Any]
    future: Future[Any] = field(default_factory=Future)
    life: Life | None = None
    begun: bool = False
    deaths: int = 0
    deaths_seen: int = 0

    @property
    def key(self) -> str | None:
        return self.payload.get("key")


@dataclass(eq=False, slots=True)
class Load:
    """A version that should be loaded, and the latest order to do so."""

    directory: Path
    order: Order
    failures: int = 0
    retry_at: float | None = None
    lethal: bool = False


def rebuilt(kind: type[Exception], message: str, attributes: dict[str, Any]) -> Exception:
    """An error of ours as the compute process met it."""
    error = kind.__new__(kind)
    error.__dict__.update(attributes)
    error.args = (message,)
    return error


def succeeded(future: Future[Any]) -> bool:
    return future.done() and future.exception() is None


def succeed(future: Future[Any], result: Any) -> None:
    if future.running() or future.set_running_or_notify_cancel():
        future.set_result(result)


def fail(future: Future[Any], error: Exception) -> None:
    if future.running() or future.set_running_or_notify_cancel():
        future.set_exception(error)
