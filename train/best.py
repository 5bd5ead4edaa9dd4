"""What a training ends with: the best checkpoint on dev, or the average of several where that is better."""

from __future__ import annotations

import shutil
from pathlib import Path

from secondstage.config import TrainConfig
from secondstage.files import replacing
from secondstage.measures import Values, mean
from secondstage.parallel import wait, workers
from secondstage.progress import say
from secondstage.rerankers import load_reranker

from .averaging import Leaders, Weights, average_best
from .selection import MEASURE, Selection

RERANKER = "reranker"
WEIGHTS = "model.safetensors"


def choose_best(folder: Path, leaders: Leaders, selection: Selection, config: TrainConfig) -> bool:
    """Write `folder/reranker`. Returns whether it is an average. All processes call it together.

    Args:
        folder: with the folders of the leaders.
        leaders: at least one.
        selection: the dev lists; it takes the average's values if that is better.
        config: in which precision dev is scored.
    """
    lead = workers().lead
    wait()  # the lead has written them
    names = [name for name, _ in leaders.entries]
    # A model so large that its weights are several files is not averaged.
    files = [folder / name / WEIGHTS for name in names if (folder / name / WEIGHTS).is_file()]
    trial = folder / "average"
    found = None
    if len(selection) and len(files) > 1:
        if lead:
            shutil.rmtree(trial, ignore_errors=True)
            shutil.copytree(folder / names[0], trial)
        found = average_best(files, leaders.entries[0][1], lambda weights: _measured(weights, trial, selection, config))
    if found is not None:
        selection.take(found[1])
        if lead:
            say(f"  the average of {len(files)} checkpoints: dev {MEASURE} {mean(found[1]):.4f}")
    if lead:
        with replacing(folder / RERANKER) as target:
            shutil.copytree(trial if found is not None else folder / names[0], target, dirs_exist_ok=True)
        shutil.rmtree(trial, ignore_errors=True)
    wait()
    return found is not None


def _measured(weights: Weights, trial: Path, selection: Selection, config: TrainConfig) -> Values:
    """The values on dev of weights that are written into a folder."""
    from safetensors.torch import save_file

    if workers().lead:
        save_file(weights, trial / WEIGHTS, metadata={"format": "pt"})
    wait()
    return selection.values(load_reranker(trial, precision=config.precision, batch_tokens=config.scoring_tokens))
