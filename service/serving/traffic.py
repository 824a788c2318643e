"""Which version answers a request that names none, where a model's traffic is split."""

from __future__ import annotations

from typing import TypeVar

from starlette.types import Scope

from models.registry import CHAMPION
from service.identifiers import new_id
from service.schemas import PredictRequest
from service.serving.pool import ModelPool

TRAFFIC_KEY = "X-Traffic-Key"
"""The header by which requests that belong together (of one patient, one session) are answered by one version."""
_TRAFFIC_KEY = TRAFFIC_KEY.lower().encode()

Body = TypeVar("Body", bound=PredictRequest)


class Traffic:
    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    def directed(self, body: Body, scope: Scope) -> Body:
        """A request with the alias that the split of its model gives it; one that names a version is left alone.

        Requests with one traffic key are given one alias for as long as the split is the same; one without is given
        one by chance.
        """
        if "version" in body.model_fields_set or not self._pool.is_split(body.model):
            return body
        return body.model_copy(update={"version": self.alias_for(body.model, scope)})

    def alias_for(self, model: str, scope: Scope) -> str:
        """The alias that answers a request for a model that names no version."""
        if not self._pool.is_split(model):
            return CHAMPION
        key = next((value for name, value in scope["headers"] if name == _TRAFFIC_KEY), b"")
        return self._pool.alias_for(model, key.decode("latin-1") or new_id())
