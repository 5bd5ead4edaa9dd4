"""What is recorded of where and from what a training comes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch

from secondstage.config import TrainConfig
from secondstage.lists import DROPPED, IGNORED, NEGATIVE, POSITIVE, Candidate, TrainingList
from secondstage.train.facts import describe_lists, describe_model, facts, git_state, machine, versions
from secondstage.version import __version__


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, "-C", str(folder), *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_state_of_a_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None  # there is no commit yet
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "another").write_text("not tracked: outputs of runs are not, either")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_without_a_repository_there_is_no_state(tmp_path: Path) -> None:
    assert git_state(tmp_path / "nowhere") is None


def test_lists_are_counted_and_told_apart() -> None:
    def one(query_id: str, *roles: str) -> TrainingList:
        found_by = {POSITIVE: "qrels", NEGATIVE: "bm25+dense", DROPPED: "sparse", IGNORED: "bm25+random"}
        return TrainingList(
            query_id, tuple(Candidate(f"d{i}", 0, False, found_by[role], 1, 0, role) for i, role in enumerate(roles))
        )

    lists = [one("a", POSITIVE, NEGATIVE, NEGATIVE), one("synthetic-b", POSITIVE, DROPPED, IGNORED)]
    found = describe_lists(lists, {"b.arrow": "1", "a.arrow": "2"})
    assert (found["lists"], found["positive"], found["negative"], found["ignored"]) == (2, 2, 2, 1)
    # Who found what training does not see is not told, nor what nobody found.
    assert (found["synthetic"], found["retrievers"], found["teachers"]) == (1, ["bm25", "dense"], [])
    assert found["fingerprint"] == describe_lists(lists, {"a.arrow": "2", "b.arrow": "1"})["fingerprint"]
    assert found["fingerprint"] != describe_lists(lists, {"a.arrow": "2", "b.arrow": "3"})["fingerprint"]


def test_only_models_of_the_hub_have_a_name_there(tmp_path: Path) -> None:
    assert describe_model(str(tmp_path)) == {"name": str(tmp_path), "hub": None, "revision": None}
    assert describe_model("organisation/model") == {
        "name": "organisation/model",
        "hub": "organisation/model",
        "revision": None,
    }


def test_everything_is_there_and_is_json() -> None:
    config = TrainConfig(steps=3, precision="fp16")
    found = facts(config, {"lists": 2}, seed=13, processes=4)
    assert TrainConfig.from_json(json.loads(json.dumps(found))["config"]) == config
    assert (found["seed"], found["data"], found["machine"]["processes"]) == (13, {"lists": 2}, 4)
    assert found["machine"]["precision"] == "fp16"
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert machine()["name"]
    assert versions()["torch"] == torch.__version__.partition("+")[0] or versions()["torch"] == torch.__version__
    assert versions()["secondstage"] == __version__
    assert {"python", "transformers", "accelerate"} <= versions().keys()
