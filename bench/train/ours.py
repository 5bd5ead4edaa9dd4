"""Our steps, for so many seconds, in a process of their own: python -m bench.train.ours SPEC.json.

The last line is JSON: what they did.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from secondstage.collection import Collection
from secondstage.config import TrainConfig
from secondstage.lists import read_lists
from secondstage.run import Run
from secondstage.texts import texts_of_lists
from secondstage.train.loop import Loop
from secondstage.train.selection import Selection
from secondstage.train.steps import Step

from .peer import Marks, Speed


class Spec(NamedTuple):
    """What to train.

    Attributes:
        collection: its folder.
        mined: the folder with the training lists.
        config: of the training, with a budget in minutes.
        seed: of everything random.
        warmup_steps: left out of what is measured.
    """

    collection: str
    mined: str
    config: dict[str, Any]
    seed: int
    warmup_steps: int


class Timed(Loop):
    """The loop, which notes what was done by the end of each step."""

    marks: Marks

    def _step(self, step: Step, progress: float) -> float:
        if not hasattr(self, "marks"):
            self.marks = Marks()
            self.marks.mark()
        loss = super()._step(step, progress)
        self.marks.pairs, self.marks.tokens, self.marks.padding = self.done.pairs, self.done.tokens, self.done.padding
        self.marks.mark()
        return loss


def train_ours(spec: Spec) -> Speed:
    """Train without dev, as the peer does."""
    texts = texts_of_lists(Collection.load(Path(spec.collection)), Path(spec.mined))
    lists = list(read_lists(Path(spec.mined) / "train"))
    with tempfile.TemporaryDirectory() as folder:
        selection = Selection(Run("dev", {}), {}, texts)
        config = TrainConfig.model_validate(spec.config)
        loop = Timed(texts, lists, selection, config, seed=spec.seed, folder=Path(folder))
        loop.run()
        return loop.marks.speed(spec.warmup_steps)


if __name__ == "__main__":
    print(json.dumps(train_ours(Spec(**json.loads(Path(sys.argv[1]).read_text())))._asdict()))
