"""One training from one start: what it is given, from lists and dev queries to the folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secondstage.collection import Collection
from secondstage.compute import set_seed
from secondstage.config import TrainConfig
from secondstage.files import folder_digests
from secondstage.leakage import met_in_lists
from secondstage.lists import TrainingList, read_index, read_lists
from secondstage.measures import mean
from secondstage.parallel import wait, workers
from secondstage.progress import say
from secondstage.rerankers import load_reranker
from secondstage.run import read_trec
from secondstage.synthetic import texts_of_lists

from .best import RERANKER
from .checks import refuse_new_head
from .facts import describe_lists
from .loop import Loop
from .model import check_kind
from .selection import MEASURE, Selection, dev_selection
from .stopping import Curve, choose_stop
from .teaching import taught
from .tracking import DEV, read_lines


class Training:
    """What one training is given."""

    def __init__(
        self, collection: Collection, mined: Path, config: TrainConfig, seed: int, work: Path, scores: Path | None
    ) -> None:
        """Read what was mined.

        Args:
            collection: the texts.
            mined: the folder that `mine`, or `teach`, wrote.
            config: model, budget and optimisation.
            seed: of everything random.
            work: existing: where it works, and where an earlier process may have left checkpoints.
            scores: the folder where the scores of a teacher are kept; needed with `config.teacher`.
        """
        self.collection, self.mined, self.config, self.seed, self.work = collection, mined, config, seed, work
        self.scores = scores
        self.texts = texts_of_lists(collection, mined)

    def run(self) -> dict[str, Any]:
        """Train; with folds, find out first for how long. Returns details for the manifest."""
        source = self.mined / "train"
        learnt = taught(read_lists(source), self.texts, self.config, self.scores)
        data = describe_lists(learnt.lists, folder_digests(source), read_index(source).teachers)
        stop_at = self._stop(learnt.lists) if self.config.folds else 1.0
        selection = self._dev(learnt.lists)
        if len(selection):
            say(selection.introduction())
        loop = Loop(self.texts, learnt.lists, selection, self.config, seed=self.seed, folder=self.work, data=data)
        found = loop.run(stop_at)
        return {**learnt.counts, **found, **({"stop_at": stop_at} if self.config.folds else {})}

    def measure(self) -> dict[str, float]:
        """The value on dev of the reranker that is there."""
        reranker = load_reranker(self.work / RERANKER, batch_tokens=self.config.batch_tokens)
        return {f"dev_{MEASURE}": mean(self._dev([]).values(reranker))}

    def _dev(self, lists: Sequence[TrainingList]) -> Selection:
        config = self.config
        return dev_selection(
            read_trec(self.mined / "dev.trec"),
            self.collection.qrels.get("dev", {}),
            self.texts,
            met_in_lists(lists, self.texts.queries),
            queries=config.dev_queries,
            depth=config.dev_depth,
            seed=self.seed,
            patience=config.patience,
        )

    def _stop(self, lists: Sequence[TrainingList]) -> float:
        """The share of the budget that the folds choose."""
        config = self.config
        return choose_stop(
            lists,
            self.texts,
            self._fold,
            folds=config.folds,
            evaluations=config.evaluations,
            queries=config.dev_queries,
            depth=config.dev_depth,
            seed=self.seed,
            folder=self.work,
            measured=self.collection.queries,
        ).progress

    def _fold(self, lists: Sequence[TrainingList], selection: Selection, folder: Path) -> Curve:
        """Train on some of the lists, and tell how the others were ranked meanwhile."""
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.model_copy(update={"tracker": "none", "patience": None, "average": 1})
        Loop(self.texts, lists, selection, config, seed=self.seed, folder=folder, tokens=self.work).run()
        return [(line["progress"], line["values"]) for line in read_lines(folder / DEV)]


def take_as_it_is(config: TrainConfig, seed: int, folder: Path) -> dict[str, Any]:
    """Write the model untrained, as the reranker; its calibration, if it has one, goes with it.

    Raises:
        UserError: it is of another kind, or it has no head that was trained.
    """
    check_kind(config)
    if config.head == "classification":
        refuse_new_head(config.model)
    set_seed(seed)
    if workers().lead:
        taken: dict[str, Any] = {"instruction": config.instruction, "max_length": config.max_length}
        load_reranker(config.model, kind=config.head, precision="fp32", **taken).save(folder / RERANKER)
    wait()
    return {"steps": 0}
