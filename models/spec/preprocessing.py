"""What happens to raw values inside the model, before its network."""

from __future__ import annotations

from typing import Literal

from models.spec.part import Part


class PreprocessingSpec(Part):
    scaling: Literal["standard", "none"] = "standard"
