"""Artefacts on disk: whole or not at all, even where a process is killed, and refused if they are not what they say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secondstage.errors import UserError
from secondstage.files import (
    FORMAT,
    MANIFEST,
    IncompleteError,
    check_files,
    file_digest,
    fingerprint,
    folder_digests,
    read_json,
    read_manifest,
    recover,
    replacing,
    sweep,
    write_json,
    write_manifest,
    writing_whole,
)
from secondstage.version import __version__

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["", "a", "b", "ä", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=3,
)


@given(json_values, json_values)
def test_fingerprints_are_equal_only_for_equal_parts(one: Any, other: Any) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert fingerprint(one) == fingerprint(json.loads(json.dumps(one)))


@given(json_values, json_values)
def test_fingerprints_tell_the_parts_apart(one: Any, other: Any) -> None:
    assert fingerprint(one, other) != fingerprint([one, other])
    assert fingerprint(one, other) != fingerprint(one)
    assume(one != other)
    assert fingerprint(one, other) != fingerprint(other, one)


def test_a_fingerprint_is_the_digest_of_canonical_json() -> None:
    text = '["mine",13,0.5,{"a":[1,null],"ä":"ö"}]'
    expected = sha256(text.encode("utf-8")).hexdigest()
    assert fingerprint("mine", 13, 0.5, {"ä": "ö", "a": (1, None)}) == expected
    assert fingerprint("mine", 13, 0.5, {"a": [1, None], "ä": "ö"}) == expected
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    distinct: tuple[object, ...] = (1, 1.5, "1", True, None, "None", [], {})
    assert len({fingerprint(value) for value in distinct}) == len(distinct)


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden things too."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def fill(folder: Path, content: str) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text(content)
    (folder / "sub" / "b.txt").write_text(content)
    return folder


def test_digests_are_of_every_file_below_but_the_manifest(tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", "text")
    (folder / "empty").write_bytes(b"")
    (folder / MANIFEST).write_text("{}")
    digest = sha256(b"text").hexdigest()
    assert folder_digests(folder) == {"a.txt": digest, "empty": sha256(b"").hexdigest(), "sub/b.txt": digest}
    assert list(folder_digests(folder)) == ["a.txt", "empty", "sub/b.txt"]
    large = tmp_path / "large"
    large.write_bytes(b"0123456789" * 250_000)  # several blocks
    assert file_digest(large) == sha256(large.read_bytes()).hexdigest()


# --- JSON


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    value: dict[str, Any] = {"ä": [1, 0.1, None, True], "nested": {"b": "\u2028"}}
    write_json(path, value)
    assert read_json(path) == value
    assert "ä" in path.read_text(encoding="utf-8")
    write_json(path, [])
    assert read_json(path) == []
    assert [found.name for found in path.parent.iterdir()] == ["x.json"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    for value in ({"new": object()}, "half a surrogate \ud800"):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            write_json(path, value)
    assert read_json(path) == {"old": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]


def test_a_reader_sees_the_old_json_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    values = [["old"] * 20_000, ["new"] * 20_000]
    write_json(path, values[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for value in reversed(values):
                write_json(path, value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(read_json(path) in values for _ in range(40))
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b'"\xff"'])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path} is not valid JSON: ")


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_json(tmp_path / "x.json")
    assert str(caught.value) == f"{tmp_path / 'x.json'} is missing"


# --- replacing a folder


@pytest.mark.parametrize("old", [False, True])
def test_a_folder_takes_its_place_when_the_block_ends(tmp_path: Path, old: bool) -> None:
    folder = tmp_path / "deep" / "x"
    if old:
        fill(folder, "old")
        (folder / "only-in-old").write_text("old")
    with replacing(folder) as temporary:
        assert list(temporary.iterdir()) == []
        assert temporary.parent == folder.parent
        assert folder.exists() == old
        (temporary / "a.txt").write_text("new")
        assert not old or (folder / "a.txt").read_text() == "old"
    assert tree(folder.parent) == {"x/a.txt": b"new"}
    assert [path.name for path in folder.parent.iterdir()] == ["x"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("error", [ValueError, UserError, KeyboardInterrupt, SystemExit])
def test_what_stood_there_stays_if_the_block_raises(tmp_path: Path, old: bool, error: type[BaseException]) -> None:
    folder = tmp_path / "x"
    if old:
        fill(folder, "old")
    before = tree(tmp_path)

    def fail() -> None:
        with replacing(folder) as temporary:
            (temporary / "a.txt").write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["x"] if old else [])


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as other:
        (one / "one").write_text("")
        (other / "other").write_text("")
    assert tree(tmp_path) == {"x/one": b""}  # the one that ended last


KILLED = """
import os, pathlib, shutil, signal, sys
from secondstage.files import replacing

place, folder = sys.argv[1], pathlib.Path(sys.argv[2])

def die(*arguments, **settings):
    os.kill(os.getpid(), signal.SIGKILL)

rename, calls = pathlib.Path.rename, []

def counted(path, target):
    calls.append(path)
    return die() if len(calls) == 2 else rename(path, target)

with replacing(folder) as temporary:
    (temporary / "a.txt").write_text("ne")
    if place == "block":
        die()
    (temporary / "a.txt").write_text("new")
    if place == "between the renames":
        pathlib.Path.rename = counted
    else:
        shutil.rmtree = die
"""


@pytest.mark.parametrize(
    ("place", "left", "recovered"),
    [
        ("block", {"x": "old", ".x.tmp": "ne"}, "old"),
        ("between the renames", {".x.old": "old", ".x.tmp": "new"}, "old"),
        ("after the renames", {"x": "new", ".x.old": "old"}, "new"),
    ],
)
def test_a_killed_process_loses_nothing(tmp_path: Path, place: str, left: dict[str, str], recovered: str) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "a.txt").write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, place, str(folder)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    found = {path.name.partition("-")[0]: (path / "a.txt").read_text() for path in tmp_path.iterdir()}
    assert found == left
    recover(folder)
    sweep(folder)
    assert tree(tmp_path) == {"x/a.txt": recovered.encode()}
    with replacing(folder) as temporary:
        (temporary / "a.txt").write_text("next")
    assert tree(tmp_path) == {"x/a.txt": b"next"}


@pytest.mark.parametrize("place", ["between the renames", "after the renames"])
def test_the_next_replacement_needs_no_recovery_before_it(tmp_path: Path, place: str) -> None:
    folder = fill(tmp_path / "x", "old")
    subprocess.run([sys.executable, "-c", KILLED, place, str(folder)], timeout=60, check=False)
    with replacing(folder) as temporary:
        (temporary / "a.txt").write_text("next")
    sweep(folder)
    assert tree(tmp_path) == {"x/a.txt": b"next"}


def test_recovery_without_a_need_changes_nothing(tmp_path: Path) -> None:
    recover(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    folder = fill(tmp_path / "x", "text")
    before = tree(tmp_path)
    recover(folder)
    assert tree(tmp_path) == before


def test_the_sweep_takes_temporary_folders_only(tmp_path: Path) -> None:
    for name in (".x.tmp-1a2b", ".y.z.tmp-", "x.tmp-1", ".x.old", ".tmp", "x", ".hidden"):
        fill(tmp_path / name, "text")
    (tmp_path / ".lock").write_text("")
    sweep(tmp_path / "x")
    left = {".y.z.tmp-", "x.tmp-1", ".x.old", ".tmp", "x", ".hidden", ".lock"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_link_to_a_folder_is_replaced_for_good(tmp_path: Path) -> None:
    target = fill(tmp_path / "elsewhere" / "x", "shared")
    folder = tmp_path / "runs" / "x"
    folder.parent.mkdir()
    folder.symlink_to(target)
    for content in ("new", "newer"):
        with replacing(folder) as temporary:
            (temporary / "a.txt").write_text(content)
    assert tree(folder.parent) == {"x/a.txt": b"newer"}
    assert (target / "a.txt").read_text() == "shared"


# --- manifests


def artefact(folder: Path, kind: str = "thing", **details: object) -> Path:
    write_manifest(fill(folder, "text"), kind, **details)
    return folder


def edit(folder: Path, **changes: object) -> None:
    write_json(folder / MANIFEST, read_json(folder / MANIFEST) | changes)


def refused(folder: Path, *, verify: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        read_manifest(folder, "thing", verify=verify)
    return str(caught.value)


@pytest.mark.parametrize("verify", [False, True])
def test_a_manifest_says_what_the_artefact_is(tmp_path: Path, verify: bool) -> None:
    folder = artefact(tmp_path / "x", fingerprint="abc", seconds=1.5)
    digest = sha256(b"text").hexdigest()
    assert read_manifest(folder, "thing", verify=verify) == {
        "kind": "thing",
        "format": FORMAT,
        "secondstage": __version__,
        "fingerprint": "abc",
        "seconds": 1.5,
        "files": {"a.txt": digest, "sub/b.txt": digest},
    }


def test_an_artefact_may_be_moved_and_files_may_be_added(tmp_path: Path) -> None:
    folder = artefact(tmp_path / "x").rename(tmp_path / "y")
    (folder / "notes.txt").write_text("mine")
    assert read_manifest(folder, "thing", verify=True)["kind"] == "thing"


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", fill(tmp_path / "foreign", "text")):
        assert refused(folder) == f"{folder} is not a thing: it holds no {MANIFEST}"


@pytest.mark.parametrize(
    ("content", "found"), [('{"kind": "other"}', "'other'"), ("{}", "None"), ("[1]", "None"), ("null", "None")]
)
def test_an_artefact_of_another_kind_is_refused(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    assert refused(tmp_path) == f"{tmp_path} is not a thing: its manifest says {found}"


def test_a_broken_manifest_is_refused(tmp_path: Path) -> None:
    folder = artefact(tmp_path / "x")
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-20])
    assert "is not valid JSON" in refused(folder)


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1, str(FORMAT), None])
def test_another_format_is_refused_with_the_way_out(tmp_path: Path, number: object) -> None:
    folder = artefact(tmp_path / "x")
    edit(folder, format=number, secondstage="0.0.9")
    newer = "install secondstage 0.0.9 or newer to read it; to make it anew, " if number == FORMAT + 1 else ""
    assert refused(folder) == (
        f"{folder} has format {number!r}, made by secondstage 0.0.9; this version ({__version__}) reads format "
        f"{FORMAT}: {newer}choose another output folder, or delete this one"
    )


def test_a_manifest_without_files_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST, {"kind": "thing", "format": FORMAT})
    assert str(tmp_path) in refused(tmp_path)


def test_missing_files_make_an_artefact_incomplete(tmp_path: Path) -> None:
    folder = artefact(tmp_path / "x")
    (folder / "a.txt").unlink()
    (folder / "sub" / "b.txt").unlink()
    (folder / "sub" / "b.txt").mkdir()  # a folder of that name is no file
    with pytest.raises(IncompleteError) as caught:
        read_manifest(folder, "thing")
    assert str(caught.value) == f"{folder} is incomplete, missing: a.txt, sub/b.txt: make it again"


def test_a_changed_file_is_found_on_request(tmp_path: Path) -> None:
    folder = artefact(tmp_path / "x")
    (folder / "sub" / "b.txt").write_text("texT")
    assert read_manifest(folder, "thing")["kind"] == "thing"
    assert refused(folder, verify=True) == f"{folder} was changed since it was made (sub/b.txt): make it again"
    with pytest.raises(UserError, match="was changed"):
        check_files(folder, {"sub/b.txt": sha256(b"text").hexdigest()}, verify=True)
    check_files(folder, {"sub/b.txt": sha256(b"texT").hexdigest()}, verify=True)


def test_the_manifest_is_written_again_with_the_files_of_that_moment(tmp_path: Path) -> None:
    folder = artefact(tmp_path / "x", note="first")
    (folder / "c.txt").write_text("more")
    manifest = write_manifest(folder, "thing")
    assert manifest == read_manifest(folder, "thing", verify=True)
    assert "note" not in manifest
    assert set(manifest["files"]) == {"a.txt", "c.txt", "sub/b.txt"}
    assert [path.name for path in folder.iterdir() if path.is_file()].count(MANIFEST) == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "below" / "shard.npy"

    def killed() -> None:
        with writing_whole(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    for before in (None, "whole"):
        with pytest.raises(KeyboardInterrupt):
            killed()
        assert [other.read_text() for other in path.parent.iterdir()] == ([] if before is None else [before])
        with writing_whole(path) as temporary:
            temporary.write_text("whole")
    assert path.stat().st_mode & 0o777 == 0o644


def test_two_may_write_a_file_at_once_whatever_their_process_ids(tmp_path: Path) -> None:
    """Processes of two machines may have the same id, as two of one process have."""
    path = tmp_path / "shared"
    with writing_whole(path) as one, writing_whole(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["one"]
