"""What is to be trained."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from secondstage.collection import Collection
from secondstage.config import TrainConfig


class Task(NamedTuple):
    """What is to be trained.

    Attributes:
        collection: the texts.
        mined: the folder that `mine`, or `teach`, wrote.
        config: model, budget and optimisation.
        seed: of everything random.
        warmed: a reranker to start from instead of `config.model`, if there is one.
        warmed_on: the folder of the lists that it learnt from, needed with it.
        choose: start from both, each with the whole budget, and keep what is better on dev.
        scores: the folder where the scores of a teacher are kept; needed with `config.teacher`.
        tokens: the folder where token rows are kept for further trainings; by default they go with the training.
        section: of the config, which its keys are proposed for; none to propose nothing.
        teacher: the model whose scores are in the lists, for the record; none where the lists name their teachers.
    """

    collection: Collection
    mined: Path
    config: TrainConfig
    seed: int
    warmed: Path | None = None
    warmed_on: Path | None = None
    choose: bool = False
    scores: Path | None = None
    tokens: Path | None = None
    section: str | None = "train"
    teacher: str | None = None
