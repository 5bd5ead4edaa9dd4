"""The stages of a run: shared among processes, or resumed after a kill, mining gives what one process gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from secondstage.files import folder_digests
from secondstage.knownscores import RECORD
from secondstage.lists import read_lists
from secondstage.networks import load_cross_encoder
from secondstage.reranker import Reranker
from secondstage.scorecache import HEADER, read_scores

from .children import launch

# Shards so small that this collection has several, and every pair scored alone: the batches of a teacher depend on what
# is left to score, and sums of padded batches differ in the last bit.
SCRIPT = """
import os, signal, sys
import secondstage.embeddings as embeddings
import secondstage.mine.search as search
from secondstage.reranker import Reranker
embeddings.SHARD, search.QUERIES_PER_SHARD = 10, 5
Reranker.batches = lambda self, lengths: ([i] for i in range(len(lengths)))
if len(sys.argv) > 1 and sys.argv[1] == "killed":
    del sys.argv[1]
    stream, scored = Reranker.stream, []
    def struck(self, pairs):
        for places, scores in stream(self, pairs):
            if len(scored) == 200:
                os.kill(os.getpid(), signal.SIGKILL)
            scored.extend(places)
            yield places, scores
    Reranker.stream = struck
from secondstage.cli import main
sys.exit(main())
"""
LISTS = ("train", "dev.trec", "audit.json", "suspicious.tsv")


@pytest.fixture(scope="module")
def project(beir_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a script, a teacher, and a config whose mining uses all that is shared."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "run.py").write_text(SCRIPT)
    torch.manual_seed(5)
    Reranker(*load_cross_encoder(str(tiny_model)), max_length=32).save(folder / "teacher")
    config = {
        "output": str(folder / "unset"),
        "collection": str(beir_folder),
        "first_stage": {"kind": "hybrid", "dense": {"model": str(tiny_model)}},
        "mine": {
            "depth": 12,
            "negatives": 5,
            "random_share": 0.2,
            "teachers": {"tiny": {"model": str(folder / "teacher"), "precision": "fp32"}},
        },
        "train": {"steps": 1, "dev_depth": 10},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    return folder


def mined(project: Path, output: str, processes: int = 1, *words: str) -> list[int]:
    """Mine in so many processes; return their exit codes."""
    arguments = [*words, "mine", str(project / "config.yaml"), f"output={project / output}"]
    done = launch(SCRIPT, processes, *arguments)
    assert words or all(one.returncode == 0 for one in done), [one.stderr for one in done]
    return [one.returncode for one in done]


def mined_by_accelerate(project: Path, output: str, processes: int) -> None:
    """The same by a launcher; here each process has a hash seed of its own."""
    words = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"]
    words += ["--dynamo_backend", "no", "--num_processes", str(processes), "--main_process_port", "0"]
    words += [str(project / "run.py"), "mine", str(project / "config.yaml"), f"output={project / output}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    environment["TOKENIZERS_PARALLELISM"] = "false"
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def files(project: Path, output: str) -> dict[str, str]:
    found = folder_digests(project / output / "mine")
    return {name: digest for name, digest in found.items() if name.startswith(LISTS)}


@pytest.fixture(scope="module")
def alone(project: Path) -> dict[str, str]:
    mined(project, "alone")
    return files(project, "alone")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_give_the_lists_of_one(project: Path, alone: dict[str, str], processes: int) -> None:
    output = f"of {processes}"
    (mined_by_accelerate if processes == 2 else mined)(project, output, processes)
    assert files(project, output) == alone
    assert len(list(read_lists(project / output / "mine" / "train"))) == 32
    # They shared the work: each but the lead left its own scores, and there are several shards of everything.
    scores = project / output / "scores"
    others = [path for path in scores.iterdir() if path.suffix != ".scores"]
    assert len(others) == processes - 1
    assert all(len(read_scores(path)) > 50 for path in others)
    assert len(list((project / output / "embeddings").glob("*.npy"))) >= 7
    assert len(list((project / output / "candidates").iterdir())) >= 7


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_run_goes_on_from_what_it_kept(project: Path, alone: dict[str, str]) -> None:
    assert mined(project, "killed", 1, "killed") == [-signal.SIGKILL]
    scores = project / "killed" / "scores"
    assert not (project / "killed" / "mine").exists()
    (kept,) = scores.iterdir()
    count = len(read_scores(kept))
    assert count == 200
    before = kept.read_bytes()[: len(HEADER) + count * RECORD.itemsize]
    mined(project, "killed")
    assert files(project, "killed") == alone
    # What was scored before the kill was not scored again: it is still the beginning of the file.
    (again,) = scores.iterdir()
    assert again.read_bytes().startswith(before)
    (undisturbed,) = (project / "alone" / "scores").iterdir()
    assert again.stat().st_size == undisturbed.stat().st_size
    assert not list((project / "killed").glob(".mine.tmp-*"))
