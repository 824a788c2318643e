"""The bases of the models of answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

Answers = dict[str, dict[str, dict[int, Any]]]
"""The JSON of answers, by path, verb and status."""


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProtocolError(Answer):
    """An error as V1 and V2 have it."""

    error: str


class ModelNames(Answer):
    """As V1 and V2 list them."""

    models: list[str]
