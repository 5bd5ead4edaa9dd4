"""A run that distils: which model its words stand for, once the stages before have made it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .config import MINED, TEACHER, TRAINED, Config, DistillConfig, EvaluateConfig, StudentTraining, TeacherConfig
from .progress import say

# The folder of a trained stage that holds the model.
RERANKER = "reranker"


class Distillation:
    """The teacher and the student of one run.

    Attributes:
        config: the section of the config.
    """

    def __init__(self, config: Config, section: DistillConfig, folder: Callable[[str], Path]) -> None:
        """Nothing is read yet.

        Args:
            config: of the run.
            section: its `distill`.
            folder: where a stage is, by its kind.
        """
        self.config, self._run, self._folder = section, config, folder

    @property
    def _trained(self) -> str:
        return str(self._folder("train") / RERANKER)

    @property
    def model(self) -> str | None:
        """The teacher; none if it is not one model, but what `mine.teachers` say together."""
        if self.config.teacher == MINED:
            return None
        return self._trained if self.config.teacher == TRAINED else self.config.teacher

    @property
    def name(self) -> str | None:
        """What the teacher is called where it is no matter which folder it is in; none as of `model`."""
        if self.config.teacher != TRAINED:
            return self.model
        model = self._run.train.model
        return f"{model}, trained here" if self._run.trains or self._run.warms else model

    @property
    def trains(self) -> bool:
        """Whether there is a stage `train`, as it makes the teacher, or what the student is cut from."""
        return self.config.trains

    def teachers(self) -> dict[str, TeacherConfig]:
        """Who scores, by name.

        Raises:
            UserError: the model is not there, or cannot teach.
        """
        from .teachers import model_teacher

        if self.model is None:
            return dict(self._run.mine.teachers)
        teacher, instruction = model_teacher(self.model), self._run.train.instruction
        # A decoder that was tuned here is asked as it was tuned.
        asked = {} if self.model != self._trained or instruction is None else {"instruction": instruction}
        return {TEACHER: teacher.model_copy(update=asked)}

    def training(self) -> StudentTraining:
        """How the student is trained, its model being the teacher, or what `train` made if that is not one model."""
        student = self.config.student
        model = (self.model or self._trained) if student.model == TEACHER else student.model
        return student.model_copy(update={"model": model})

    def evaluated(self) -> EvaluateConfig:
        """The proof, with the teacher beside the student. Only a cross-encoder can be there."""
        proof = self._run.evaluate
        (teacher,) = self.teachers().values() if self.model is not None else (None,)
        if teacher is None or teacher.kind != "cross_encoder":
            say("  the teacher is not one cross-encoder: the proof shows the student without it")
            return proof
        return proof.model_copy(update={"rerankers": {**proof.rerankers, TEACHER: teacher.model}})
