"""The configuration of one run: its sections, their keys, types, bounds and defaults."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ..lists import FROM_CORPUS
from .bakeoff import BakeoffConfig
from .base import Section
from .collection import CollectionConfig, origin_fault
from .distill import MINED, TEACHER, TRAINED, DistillConfig, StudentTraining
from .evaluate import SYSTEMS, EvaluateConfig, GateConfig
from .first_stage import Bm25Config, DenseConfig, FirstStageConfig, MilvusConfig, SparseConfig
from .loss import LossTerm, on_labels, on_teacher
from .mine import FalseNegativesConfig, MineConfig, SynthesizeConfig, TeacherConfig
from .remote import EndpointConfig, RemoteConfig
from .serve import CascadeStage, ServeConfig
from .server import ServerConfig
from .train import BUDGETS, StudentConfig, TrainConfig, budget_fault
from .warmup import WarmupConfig, in_warmup_words, warmup_budget_fault

__all__ = [
    "BUDGETS",
    "MINED",
    "SYSTEMS",
    "TEACHER",
    "TRAINED",
    "BakeoffConfig",
    "Bm25Config",
    "CascadeStage",
    "CollectionConfig",
    "Config",
    "DenseConfig",
    "DistillConfig",
    "EndpointConfig",
    "EvaluateConfig",
    "FalseNegativesConfig",
    "FirstStageConfig",
    "GateConfig",
    "LossTerm",
    "MilvusConfig",
    "MineConfig",
    "RemoteConfig",
    "Section",
    "ServeConfig",
    "ServerConfig",
    "SparseConfig",
    "StudentConfig",
    "StudentTraining",
    "SynthesizeConfig",
    "TeacherConfig",
    "TrainConfig",
    "WarmupConfig",
    "budget_fault",
    "in_warmup_words",
    "on_labels",
    "on_teacher",
    "origin_fault",
    "warmup_budget_fault",
]


class Config(Section):
    """One run."""

    output: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 13
    collection: CollectionConfig
    first_stage: FirstStageConfig = FirstStageConfig()
    warmup: WarmupConfig | None = None
    mine: MineConfig = MineConfig()
    train: TrainConfig
    distill: DistillConfig | None = None
    serve: ServeConfig = ServeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    bakeoff: BakeoffConfig | None = None

    @property
    def trains(self) -> bool:
        """Whether `train` tunes something: no model that is taken as it is, and no other teacher instead of it."""
        return self.train.steps != 0 and (self.distill is None or self.distill.trains)

    @property
    def warms(self) -> bool:
        """Whether there is a warm-up that may be used."""
        return self.warmup is not None and self.warmup.use != "never"

    @model_validator(mode="after")
    def _deep_enough(self) -> Config:
        looks = {
            "serve": (max(self.serve.deepest, self.serve.max_depth), "serve.depth, serve.max_depth and serve.cascade"),
            "train": (self.train.dev_depth, "train.dev_depth"),
        }
        # A model that is taken as it is needs no lists, unless it teaches.
        if self.train.steps != 0 or self.distill is not None:
            looks["mine"] = (self.mine.depth, "mine.depth")
            if self.mine.synthesize is not None:
                looks["mine.synthesize"] = (self.mine.synthesize.round_trip, "mine.synthesize.round_trip")
        if self.bakeoff is not None:
            looks["bakeoff"] = (self.bakeoff.depth, "bakeoff.depth")
        if self.warmup is not None:
            deepest = max(self.warmup.depth, self.warmup.round_trip)
            looks["warmup"] = (deepest, "warmup.depth and warmup.round_trip")
        if self.distill is not None and self.distill.queries is not None:
            looks["distill"] = (self.distill.depth, "distill.depth")
        for section, (deepest, keys) in looks.items():
            if self.first_stage.fuses and deepest > self.first_stage.depth:
                # Its scores depend on how much it fuses: a deeper search would be another first stage.
                raise ValueError(
                    f"{section} looks {deepest} documents deep, but the hybrid fuses only first_stage.depth="
                    f"{self.first_stage.depth} of each retriever: raise this, or lower {keys}"
                )
        return self

    @model_validator(mode="after")
    def _searchable(self) -> Config:
        making = {"mine.synthesize": self.mine.synthesize, "warmup": self.warmup}
        for key in [key for key, section in making.items() if section is not None and self.first_stage.kind == "run"]:
            raise ValueError(
                f"{key} makes new queries, but a first stage of the kind run has lists for the queries of its files "
                f"alone, and would find none: leave {key} out, or choose a first_stage.kind that has an index"
            )
        return self

    @model_validator(mode="after")
    def _taught(self) -> Config:
        if on_teacher(self.train.loss) and self.train.teacher is None and not self.mine.teachers:
            raise ValueError(
                f"train.loss names {', '.join(self.train.loss)}, which compare with a teacher's scores, and there "
                "is no teacher: give train.teacher, a model, or mine.teachers"
            )
        return self

    @model_validator(mode="after")
    def _distilled(self) -> Config:
        if self.distill is None:
            return self
        student = self.distill.student
        if self.distill.teacher == MINED and not self.mine.teachers:
            raise ValueError("distill.teacher=mine are the scores of mine.teachers, and there are none: give one")
        kinds = {teacher.kind for teacher in self.mine.teachers.values()}
        if self.distill.teacher == MINED and self.distill.queries is not None and kinds == {"run"}:
            raise ValueError(
                "distill.queries are new queries, but a teacher of the kind run has scores for the ids of its file "
                "alone: leave distill.queries out, or add a teacher that reads texts"
            )
        if student.model == TEACHER and self.distill.trains and student.head != self.train.head:
            raise ValueError(
                f"the student is cut from what train makes, whose head is {self.train.head}: set distill.student.head="
                f"{self.train.head}"
            )
        if self.distill.queries is not None and self.first_stage.kind == "run":
            raise ValueError(
                "distill.queries are new queries, but a first stage of the kind run has lists for the queries of its "
                "files alone: leave distill.queries out, or choose a first_stage.kind that has an index"
            )
        if student.dev_depth > self.train.dev_depth:
            raise ValueError(
                f"distill.student.dev_depth={student.dev_depth} is more than the train.dev_depth="
                f"{self.train.dev_depth} that dev is searched to: raise this, or lower that"
            )
        if TEACHER in self.evaluate.rerankers:
            raise ValueError(
                "evaluate.rerankers.teacher: with distill, the name teacher is that of distill.teacher, which is "
                "evaluated anyway: choose another name"
            )
        return self

    @model_validator(mode="after")
    def _known_quotas(self) -> Config:
        known = self.first_stage.names
        unknown = [name for name in self.mine.quotas if name == FROM_CORPUS or (known and name not in known)]
        if unknown:
            raise ValueError(
                f"mine.quotas names {', '.join(unknown)}: give shares of what the retrievers of the first stage find "
                f"({', '.join(known) or 'the names of the runs'}); mine.random_share is that of the whole corpus"
            )
        return self
