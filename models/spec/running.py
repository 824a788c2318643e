"""How a job is run: before or after which others, and what it may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.spec.part import Part

Priority = Literal["high", "normal", "low"]


class LimitsSpec(Part):
    """A trainer that goes beyond is ended, and the job fails and says so. null: what the worker's settings say."""

    minutes: Annotated[float | None, Field(gt=0, description="of one attempt, from the start of its trainer")] = None
    memory_mib: Annotated[int | None, Field(ge=64, description="resident memory of the trainer")] = None
