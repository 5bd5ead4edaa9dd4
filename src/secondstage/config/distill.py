"""From a teacher to a student: what the teacher scores for it, and how the student is tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from .base import Count, Section
from .loss import LossTerm, check_losses, on_teacher
from .train import TrainConfig

# Words that stand for a model: a folder of such a name is given as ./train.
TRAINED = "train"
MINED = "mine"
TEACHER = "teacher"


class StudentTraining(TrainConfig):
    """How the student is tuned: the keys of `train`, with a budget of its own."""

    model: str = TEACHER
    """teacher: the teacher itself, of which `student` cuts layers; else a hub id, a folder or `package:…`."""
    loss: Annotated[Mapping[str, LossTerm], AfterValidator(check_losses)] = {
        "kl": LossTerm(),
        "lce": LossTerm(weight=0.2),
    }
    """As of `train`; one of them must look at the teacher's scores."""


class DistillConfig(Section):
    """A student that learns from the scores of a teacher, of labelled and of unlabelled queries."""

    teacher: str = TRAINED
    """train: the reranker that `train` made. mine: what `mine.teachers` say together, whose scores are in the lists
    already. Else a hub id, a folder or `package:…`: a cross-encoder, or a decoder that is asked for yes or no."""
    queries: str | None = None
    """A file of unlabelled queries, plain or .gz: BEIR JSON lines, or text with a query a line. None: labelled ones."""
    max_queries: Count | None = None
    """Use only so many unlabelled queries, chosen by the seed."""
    depth: Count = 30
    """Candidates of each query that the teacher scores; of a labelled one those that mining kept, `mine.depth` at most,
    and those that training takes anyway."""
    candidates: Annotated[int, Field(ge=2)] | None = None
    """Candidates of each list that the student sees, drawn evenly over the range of the teacher's scores; those of a
    labelled query that training takes anyway are among them. None: all that were scored."""
    student: StudentTraining

    @property
    def trains(self) -> bool:
        """Whether a reranker is trained for it: the teacher, or what the student is cut from."""
        return self.teacher == TRAINED or (self.teacher == MINED and self.student.model == TEACHER)

    @model_validator(mode="after")
    def _one_teacher(self) -> DistillConfig:
        if self.student.teacher is not None:
            raise ValueError("the teacher of a student is distill.teacher: leave distill.student.teacher out")
        if not on_teacher(self.student.loss):
            raise ValueError(
                f"no loss of the student ({', '.join(self.student.loss)}) looks at the teacher's scores: give one that "
                "does in distill.student.loss, e.g. kl, or leave distill out"
            )
        if self.max_queries is not None and self.queries is None:
            raise ValueError("max_queries counts unlabelled queries: give distill.queries, the file that holds them")
        return self
