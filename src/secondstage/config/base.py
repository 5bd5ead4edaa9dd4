"""What all sections share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are faults, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read what `model_dump(mode="json")` gave: JSON has lists where sections hold tuples."""
        return cls.model_validate_json(json.dumps(record))
