"""The layout: one name in site-packages, every file in the wheel, and a stage that imports no other stage."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata, resources
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

import secondstage

ROOT = Path(__file__).parents[1]
# The command line, and the lazy names of the package, may import stages, but only where they are used.
BRIDGES = (
    "secondstage",
    "secondstage.cli",
    "secondstage.commands",
    "secondstage.exportcommand",
    "secondstage.documentscommand",
    "secondstage.feedbackcommand",
    "secondstage.learning",
    "secondstage.searchcommand",
    "secondstage.servecommand",
    "secondstage.site",
    "secondstage.stages",
    "secondstage.bakeoff.kitchen",
)
NOT_SHIPPED = ("tests", "bench", "build", "dist")
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "faiss",
    "pyarrow",
    "pandas",
    "wandb",
    "sentence_transformers",
    "accelerate",
    "bm25s",
    "numpy",
    "pydantic",
    "yaml",
)


def parts() -> list[Path]:
    """The top-level folders that hold Python, but those that are not shipped."""
    folders = (path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    kept = (path for path in folders if path.name not in NOT_SHIPPED and path.suffix != ".egg-info")
    return sorted(path for path in kept if any(path.rglob("*.py")))


# Every top-level folder is a stage, but the trunk and the configurations.
STAGES = tuple(part.name for part in parts() if part.name not in ("src", "configs"))


def shipped_files() -> dict[str, Path]:
    """Every file that a user should get, by its name in the wheel."""
    found = {}
    for part in parts():
        base = part / "secondstage" if part.name == "src" else part
        prefix = "secondstage" if part.name == "src" else f"secondstage/{part.name}"
        for path in base.rglob("*"):
            if path.is_file() and path.suffix not in (".pyc", ".md"):
                found[f"{prefix}/{path.relative_to(base).as_posix()}"] = path
    return found


def modules() -> dict[str, Path]:
    """Every Python file by the name of its module."""
    files = {name: path for name, path in shipped_files().items() if path.suffix == ".py"}
    return {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for name, path in files.items()}


# --- packaging


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files of a wheel, built from a copy of the tree."""
    copy, target = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for path in (*parts(), *(ROOT / name for name in ("pyproject.toml", "LICENSE", "README.md"))):
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif path.exists():
            shutil.copy(path, copy)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(target)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=120)
    (path,) = target.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_distribution_owns_one_name(wheel: list[str]) -> None:
    assert {name.partition("/")[0] for name in wheel} == {
        "secondstage",
        f"secondstage-{secondstage.__version__}.dist-info",
    }
    assert (metadata.distribution("secondstage").read_text("top_level.txt") or "").split() == ["secondstage"]
    assert metadata.version("secondstage") == secondstage.__version__


def test_the_map_lists_every_folder_and_the_wheel_holds_every_file(wheel: list[str]) -> None:
    held = {name for name in wheel if name.startswith("secondstage/")}
    assert held == set(shipped_files())
    assert {
        "secondstage/py.typed",
        "secondstage/configs/demo.yaml",
        "secondstage/mine/__init__.py",
        "secondstage/serve/proof/report.html.j2",
    } <= held


def test_data_are_found_where_the_package_is_installed() -> None:
    """What the code opens by the name of its package, not by a path in this tree."""
    packages = {
        path.parent for name, path in shipped_files().items() if name.endswith((".j2", ".yaml", ".tsv", ".css"))
    }
    assert len(packages) == 9
    for name, path in shipped_files().items():
        if path.parent in packages and path.suffix != ".py":
            package = name.rpartition("/")[0].replace("/", ".")
            assert (resources.files(package) / path.name).read_bytes() == path.read_bytes()


def test_every_folder_of_modules_is_a_package() -> None:
    """A mapped folder without `__init__.py` cannot be imported from an editable install."""
    folders = {path.parent for path in modules().values()}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


# --- who imports whom


class Import(NamedTuple):
    """One imported name.

    Attributes:
        name: in full; of `from a import b` both `a` and `a.b`.
        eager: whether it is imported with the module, not in a function or for type checkers only.
    """

    name: str
    eager: bool


def imports(source: str, package: str) -> Iterator[Import]:
    """What a module imports; `package` is that which its relative imports start from."""
    yield from _walk(ast.parse(source).body, package, eager=True)


def _walk(body: list[ast.stmt], package: str, *, eager: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = resolve_name("." * node.level + (node.module or ""), package)
            yield Import(name, eager)
            yield from (Import(f"{name}.{alias.name}", eager) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _walk(node.body, package, eager=False)
            yield from _walk(node.orelse, package, eager=eager)
        else:
            inner = eager and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                for child in getattr(node, field, []):
                    yield from _walk([child] if isinstance(child, ast.stmt) else child.body, package, eager=inner)


def stage_of(name: str) -> str | None:
    """The stage that a full name belongs to; a stage's folder under its bare name counts, too."""
    first, _, rest = name.partition(".")
    stage = rest.partition(".")[0] if first == "secondstage" else first
    return stage if stage in STAGES else None


def faults(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that the one rule forbids."""
    own = stage_of(module)
    found = []
    for name, eager in imports(source, module if is_package else module.rpartition(".")[0]):
        other = stage_of(name)
        if other is None or other == own:
            continue
        if own is not None or module not in BRIDGES or eager:
            found.append(f"{module} imports {name}")
    return found


def test_a_stage_imports_no_other_and_the_trunk_none() -> None:
    found = modules()
    assert {stage_of(name) for name in found} == {None, *STAGES} >= {"mine", "train", "serve"}
    assert [
        fault
        for name, path in found.items()
        for fault in faults(name, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
    ] == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("secondstage.run", "import secondstage.mine", 1),
        ("secondstage.run", "def f():\n    from secondstage.serve import x", 2),
        ("secondstage.run", "def f():\n    from . import train", 1),
        ("secondstage.firststage.bm25", "from ..mine.stage import mine", 2),
        ("secondstage.firststage.bm25", "from ..run import Run", 0),
        ("secondstage.run", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .mine import x", 2),
        ("secondstage.commands", "from .mine import x", 2),
        ("secondstage.commands", "try:\n    pass\nexcept E:\n    import secondstage.mine", 1),
        ("secondstage.commands", "class A:\n    import secondstage.mine", 1),
        ("secondstage.commands", "def f():\n    if x:\n        from secondstage.mine import mine", 0),
        ("secondstage.cli", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .mine import x", 0),
        ("secondstage.cli", "if TYPE_CHECKING:\n    pass\nelse:\n    from .mine import x", 2),
        ("secondstage.mine.stage", "from . import sample\nfrom secondstage.mine import policies", 0),
        ("secondstage.mine.stage", "from secondstage.train.losses import lce", 2),
        ("secondstage.mine.stage", "def f():\n    from ..serve import x", 2),
        ("secondstage.mine.stage", "import train", 1),
        ("secondstage.mine.stage", "import trained, secondstage.minery", 0),
    ],
)
def test_the_rule_finds_what_it_forbids(module: str, source: str, count: int) -> None:
    assert len(faults(module, source)) == count


# --- import secondstage

FRESH = """
import json, sys
import secondstage
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""


def test_importing_it_loads_no_library() -> None:
    """So it is fast."""
    command = [sys.executable, "-c", FRESH]
    loaded = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert set(loaded) & set(HEAVY) == set()
    assert "secondstage" in loaded


def test_help_loads_no_library() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "secondstage", "run", "--help"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in found.stderr.splitlines()}
    assert "secondstage" in loaded
    assert loaded & set(HEAVY) == set()


@pytest.mark.parametrize("name", secondstage.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(secondstage, name)
    assert name == "__version__" or found.__name__ == name
    assert getattr(secondstage, name) is found


def test_the_public_names_are_sorted_and_known_to_type_checkers() -> None:
    source = (ROOT / "src" / "secondstage" / "__init__.py").read_text(encoding="utf-8")
    assert sorted(secondstage.__all__) == list(secondstage.__all__)
    typed = {name.rpartition(".")[2] for name, eager in imports(source, "secondstage") if not eager}
    assert set(secondstage.__all__) - {"__version__"} <= typed


def test_any_other_name_is_none() -> None:
    with pytest.raises(AttributeError, match="module 'secondstage' has no attribute 'nothing'"):
        getattr(secondstage, "nothing")  # noqa: B009
