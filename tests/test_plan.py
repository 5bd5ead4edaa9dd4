"""Stages: made once, made again when what they depend on changes, and never half."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from secondstage.errors import UserError
from secondstage.files import FORMAT, MANIFEST, read_json, read_manifest, write_json
from secondstage.plan import Stage, carry_out, claimed, describe_os_error, done


class Maker:
    """Writes its content, and counts how often it was asked to."""

    def __init__(self, content: str = "made", fails: bool = False) -> None:
        self.content, self.fails, self.calls = content, fails, 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.calls += 1
        assert list(folder.iterdir()) == []
        (folder / "half.txt").write_text(self.content)
        if self.fails:
            raise UserError("it went wrong")
        (folder / "whole.txt").write_text(self.content)
        return {"note": self.content}


def stage(make: Callable[[Path], dict[str, Any]], sign: str = "sign", kind: str = "mine") -> Stage:
    return Stage(kind, sign, make)


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden things too, but the lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_stage_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make = Maker()
    first = carry_out(stage(make), tmp_path)
    before = tree(tmp_path)
    second = carry_out(stage(make), tmp_path)
    assert make.calls == 1
    assert second == first == read_manifest(tmp_path / "mine", "mine", verify=True) == done(stage(make), tmp_path)
    assert (first["kind"], first["fingerprint"], first["note"]) == ("mine", "sign", "made")
    assert set(first["files"]) == {"half.txt", "whole.txt"}
    assert tree(tmp_path) == before
    news = capsys.readouterr()
    assert news.out == ""
    assert [line.partition(":")[2].strip().partition(" ")[0] for line in news.err.splitlines()[2:]] == ["done"]


def test_a_stage_is_made_again_when_its_fingerprint_changes(tmp_path: Path) -> None:
    carry_out(stage(Maker("old"), "one"), tmp_path)
    new = Maker("new")
    assert done(stage(new, "two"), tmp_path) is None
    assert carry_out(stage(new, "two"), tmp_path)["note"] == "new"
    assert (tmp_path / "mine" / "whole.txt").read_text() == "new"
    assert done(stage(new, "one"), tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_stages_stand_side_by_side(tmp_path: Path) -> None:
    mine, train = Maker("mined"), Maker("trained")
    for sign in ("one", "two"):
        carry_out(stage(mine, "same"), tmp_path)
        carry_out(stage(train, sign, "train"), tmp_path)
    assert (mine.calls, train.calls) == (1, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "train"}


@pytest.mark.parametrize("old", [False, True])
def test_a_stage_that_fails_keeps_the_old_one(tmp_path: Path, old: bool) -> None:
    if old:
        carry_out(stage(Maker("old"), "one"), tmp_path)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="it went wrong"):
        carry_out(stage(Maker("new", fails=True), "two"), tmp_path)
    assert tree(tmp_path) == before
    assert (done(stage(Maker(), "one"), tmp_path) is not None) == old
    again = Maker("again")
    assert carry_out(stage(again, "two"), tmp_path)["note"] == "again"
    assert again.calls == 1


def test_nobody_sees_a_stage_before_it_is_whole(tmp_path: Path) -> None:
    seen = []

    def make(folder: Path) -> dict[str, Any]:
        (folder / "half.txt").write_text("")
        seen.append((done(stage(make, "one"), tmp_path), done(stage(make, "two"), tmp_path)))
        return {}

    first = carry_out(stage(make, "one"), tmp_path)
    carry_out(stage(make, "two"), tmp_path)
    assert seen == [(None, None), (first, None)]


@pytest.mark.parametrize("names", [("half.txt",), ("half.txt", "whole.txt")])
def test_an_incomplete_stage_is_made_again(tmp_path: Path, names: tuple[str, ...]) -> None:
    make = Maker()
    carry_out(stage(make), tmp_path)
    for name in names:
        (tmp_path / "mine" / name).unlink()
    assert done(stage(make), tmp_path) is None
    carry_out(stage(make), tmp_path)
    assert make.calls == 2
    assert read_manifest(tmp_path / "mine", "mine", verify=True)["note"] == "made"


def test_an_empty_folder_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert done(stage(Maker()), tmp_path) is None
    assert carry_out(stage(Maker()), tmp_path)["note"] == "made"


def left_alone(tmp_path: Path, make: Maker, message: str) -> None:
    """Assert that the stage folder is refused, and neither changed nor read further."""
    before = tree(tmp_path)
    for function in (done, carry_out):
        with pytest.raises(UserError, match=message):
            function(stage(make), tmp_path)
    assert make.calls == 0
    assert tree(tmp_path) == before


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    left_alone(tmp_path, Maker(), "is not a mine folder of secondstage and is left alone: choose another output folder")


@pytest.mark.parametrize("manifest", [{"kind": "train"}, {"name": "of another tool"}, []])
def test_a_folder_with_another_manifest_is_refused_and_left_alone(tmp_path: Path, manifest: object) -> None:
    write_json(tmp_path / "mine" / MANIFEST, manifest)
    left_alone(tmp_path, Maker(), "is not a mine folder of secondstage and is left alone")


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_refused_and_left_alone(tmp_path: Path, number: int) -> None:
    carry_out(stage(Maker("old")), tmp_path)
    path = tmp_path / "mine" / MANIFEST
    write_json(path, read_json(path) | {"format": number})
    left_alone(tmp_path, Maker(), f"has format {number}.*choose another output folder, or delete this one")


def test_a_file_in_the_place_of_a_stage_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    make = Maker()
    with pytest.raises((UserError, OSError)):
        carry_out(stage(make), tmp_path)
    assert make.calls == 0
    assert (tmp_path / "mine").read_text() == "mine"


# --- the claim on the output folder

KINDS = ("mine", "train")

CHILD = """
import pathlib, sys, time
from secondstage.plan import Stage, carry_out, claimed

def make(folder):
    (folder / "half.txt").write_text("half")
    print("making", flush=True)
    sys.stdin.read()
    (folder / "whole.txt").write_text("of the child")
    return {"note": "of the child"}

output = pathlib.Path(sys.argv[1])
with claimed(output, ["mine"]):
    carry_out(Stage("mine", "child", make), output)
"""


@contextmanager
def child(output: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the midst of making a stage; it ends well when its input is closed."""
    command = [sys.executable, "-c", CHILD, str(output)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "making\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    output = tmp_path / "runs" / "one"
    with child(output) as process:
        before = tree(output)
        with pytest.raises(UserError) as caught, claimed(output, KINDS):
            pass
        assert str(caught.value) == f"another run is writing to {output}: wait for it, or choose another output"
        assert tree(output) == before
        with claimed(output.with_name("two"), KINDS):
            pass
        process.communicate()
        assert process.returncode == 0
    with claimed(output, KINDS):
        assert read_manifest(output / "mine", "mine", verify=True)["note"] == "of the child"


@pytest.mark.parametrize("old", [False, True])
def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, old: bool) -> None:
    if old:
        carry_out(stage(Maker("old")), tmp_path)
    whole = tree(tmp_path)
    with child(tmp_path) as process:
        process.kill()
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert any(name.endswith("half.txt") and name.startswith(".mine.tmp-") for name in tree(tmp_path))
    assert (done(stage(Maker()), tmp_path) is not None) == old
    with claimed(tmp_path, KINDS):
        assert tree(tmp_path) == whole
        assert carry_out(stage(Maker("new"), "new"), tmp_path)["note"] == "new"


def test_what_a_user_keeps_beside_the_stages_is_left_alone(tmp_path: Path) -> None:
    for name in (".conf.old", "conf", ".x.tmp-mine"):
        (tmp_path / name).mkdir()
    (tmp_path / ".bashrc.old").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    with claimed(tmp_path, KINDS):
        pass
    assert {path.name for path in tmp_path.iterdir()} == before | {".lock"}


def test_a_kill_between_the_renames_is_undone(tmp_path: Path) -> None:
    make = Maker("old")
    carry_out(stage(make), tmp_path)
    (tmp_path / "mine").rename(tmp_path / ".mine.old")
    with claimed(tmp_path, KINDS):
        assert carry_out(stage(make), tmp_path)["note"] == "old"
    assert make.calls == 1


def test_the_claim_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), claimed(tmp_path, KINDS):
            raise ValueError("inside")
    with claimed(tmp_path, KINDS):
        pass


@pytest.mark.parametrize("below", ["", "runs", "runs/one"])
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with (
        pytest.raises(UserError, match=f"cannot write to the output folder {file / below}: "),
        claimed(file / below, KINDS),
    ):
        pass
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (OSError(28, "No space left on device", "/x/y"), "No space left on device (/x/y): "),
        (OSError(28, "No space left on device"), "No space left on device: "),
        (OSError("something odd"), "something odd: "),
    ],
)
def test_a_failed_write_is_told_in_words(error: OSError, start: str) -> None:
    told = describe_os_error(error)
    assert told.startswith(start)
    assert told.endswith("run the same command again to go on")
