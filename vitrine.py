"""The Python client of a Vitrine server. Needs httpx alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

import httpx

_FINISHED = ("succeeded", "failed", "cancelled")


class VitrineError(Exception):
    """An answer that is a problem document: `status`, `title`, `detail` and, for values, `errors`."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or "unknown error")
        self.problem = problem
        self.status: int = problem.get("status", 0)
        self.errors: list[dict[str, str]] = problem.get("errors", [])


class Client:
    """Talks to one server.

    >>> with Client("http://127.0.0.1:8000") as vitrine:            # doctest: +SKIP
    ...     vitrine.predict("diabetes", [[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]])
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, timeout_seconds: float = 60.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def predict(self, model: str, inputs: Sequence[Any], *, version: int | str = "champion") -> list[dict[str, Any]]:
        """One prediction per row, in order. Raises `VitrineError`."""
        return self._post("/predict", {"model": model, "version": version, "inputs": list(inputs)})["predictions"]

    def explain(
        self, model: str, inputs: Sequence[Any], *, version: int | str = "champion", **options: Any
    ) -> dict[str, Any]:
        """The explanations of some rows with their receipt. Options are those of `POST /explain`."""
        return self._post("/explain", {"model": model, "version": version, "inputs": list(inputs), **options})

    def picture(self, model: str, row: Any, *, width: int = 800, theme: str = "light", **options: Any) -> bytes:
        """A PNG of the explanation of one row and one target."""
        response = self._http.post(
            "/explain",
            json={"model": model, "inputs": [row], **options},
            params={"width": width, "theme": theme},
            headers={"Accept": "image/png"},
        )
        return _checked(response).content

    def train(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Queues a training job; returns its document."""
        return self._post("/train", spec)

    def job(self, job: str) -> dict[str, Any]:
        return _checked(self._http.get(f"/train/{job}")).json()

    def follow(self, job: str, *, every_seconds: float = 0.5) -> Iterator[dict[str, Any]]:
        """The document of a job, again and again until it has finished."""
        while True:
            document = self.job(job)
            yield document
            if document["status"] in _FINISHED:
                return
            Event().wait(every_seconds)

    def models(self) -> list[dict[str, Any]]:
        return _checked(self._http.get("/models")).json()["models"]

    def card(self, model: str, version: int | str = "champion") -> dict[str, Any]:
        """The model card of a version."""
        return _checked(self._http.get(f"/models/{model}/versions/{version}")).json()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _checked(self._http.post(path, json=body)).json()


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        problem = response.json()
    except ValueError:
        problem = {"status": response.status_code, "detail": response.text[:500]}
    raise VitrineError(problem)
