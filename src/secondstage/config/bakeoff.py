"""Which recipes are trained against each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Count, Section

# The config without overrides, which the others are compared with.
BASE = "base"
# Names of folders, and words of a table.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+=-]{0,59}")


class BakeoffConfig(Section):
    """Several recipes under one budget; every recipe is the config with some keys changed."""

    recipes: Mapping[str, Mapping[str, Any]]
    """By name: dotted keys or nested sections, with their values. The base is always there beside them."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = (13, 14, 15)
    """Every recipe is mined and trained with each of these."""
    tokens: Count | None = None
    """The budget of every training in tokens, instead of that of train: full steps of batch_tokens, without padding.
    What is really taken differs a little, as steps hold whole lists."""
    split: str = "dev"
    """Whose queries decide."""
    max_queries: Count | None = None
    """So many of them at most, chosen by the seed."""
    depth: Count = 30
    """Candidates of each that are reranked."""
    system: Literal["pipeline", "reranked"] = "pipeline"
    """Which value decides: the reranker fused half and half with the first stage, or alone."""
    keep: bool = False
    """Keep the reranker of every recipe and seed, not that of the winner alone."""

    @model_validator(mode="after")
    def _clear(self) -> BakeoffConfig:
        if not self.recipes:
            raise ValueError("recipes is empty: name at least one, e.g. {slow: {train.learning_rate: 2e-5}}")
        for name in self.recipes:
            if name == BASE:
                raise ValueError(f"recipes: {BASE} is the config as it is, and always there: choose another name")
            if not NAME.fullmatch(name) or name[-1] in " .":
                raise ValueError(
                    f"recipes: {name!r} becomes the name of a folder: letters, digits, spaces and ._+=- only, at most "
                    "60, beginning with a letter or digit"
                )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different, and at least one, not {list(self.seeds)}")
        return self
