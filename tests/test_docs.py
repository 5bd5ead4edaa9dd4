"""The how-to pages: commands parse, files exist, requests are answered, settings are real."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from fastapi.testclient import TestClient

from secondstage import cli
from secondstage.collection import Collection, Document
from secondstage.config import ServerConfig
from secondstage.configfile import check_section
from secondstage.firststage.given import Given
from secondstage.run import read_trec
from secondstage.serve.feedback.events import read_events

from .apps import serving_bundle

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
KEY = "KEY"


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The lines of a shell, each split into its words."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            assert kind in ("bash", "json", "python", "text", "yaml"), f"{page.name}: {kind or 'no'} language"
            found.append(Block(page.name, kind, text))
    return [block for block in found if block.language == language]


def python_of(page: str) -> str:
    (block,) = [block for block in blocks("python") if block.page == page]
    return block.text


COMMANDS = [(block.page, words) for block in blocks("bash") for words in block.commands]


def named(*names: str) -> list[Any]:
    """The commands that begin so, as parameters."""
    return [
        pytest.param(words, id=f"{page}-{i}")
        for i, (page, words) in enumerate(COMMANDS)
        if words[: len(names)] == [*names]
    ]


def test_there_is_something_to_check() -> None:
    assert {page.stem for page in PAGES} >= {"README", "server", "tei", "opensearch", "vespa", "milvus", "qdrant"}
    # A page that nobody finds is none.
    assert all(f"({page.name})" in (ROOT / "docs" / "README.md").read_text() for page in PAGES if page.stem != "README")
    known = {"secondstage", "curl", "pip", "docker", "cp", "vllm", "infinity_emb", "eland_import_hub_model"}
    assert {words[0] for _, words in COMMANDS} <= known


@pytest.mark.parametrize("words", named("secondstage"))
def test_commands_parse(words: list[str]) -> None:
    parsed = cli._parser().parse_args(words[1:])
    if words[1] == "serve":
        check_section(ServerConfig, parsed.overrides, "the settings of the server")
    if words[1] == "run":
        assert (ROOT / parsed.config).is_file()
        keys = (ROOT / parsed.config).read_text()
        assert all(
            re.search(rf"^\s*{override.split('=')[0].split('.')[-1]}:", keys, re.MULTILINE)
            for override in parsed.overrides
        )


@pytest.mark.parametrize("words", named("pip", "install"))
def test_extras_exist(words: list[str]) -> None:
    extras = re.search(
        r"^\[project.optional-dependencies\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    assert extras
    for asked in re.findall(r"secondstage\[(\w+)\]", words[-1]):
        assert re.search(rf"^{asked} = ", extras[1], re.MULTILINE)


@pytest.mark.parametrize("words", named("docker"))
def test_files_of_docker_exist(words: list[str]) -> None:
    for option, value in itertools.pairwise(words):
        assert option != "--file" or (ROOT / value).is_file()


@pytest.mark.parametrize("words", named("vllm", "serve"))
def test_vllm_is_told_where_pairs_are_cut(words: list[str]) -> None:
    assert "--max-model-len" in words


class Curl(NamedTuple):
    """A request, as a `curl` line says it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


def curl(words: list[str]) -> Curl:
    """Read the options that the pages use; any other is a fault."""
    url, headers, body = "", {}, None
    rest = iter(words[1:])
    for word in rest:
        if word == "--json":
            body = json.loads(next(rest))
        elif word == "--header":
            name, value = next(rest).split(": ", 1)
            headers[name] = value
        else:
            assert not word.startswith("-")
            url = word
    found = re.fullmatch(r"http://127\.0\.0\.1:(?:8000|8080)(/\S*)", url)
    assert found, url
    return Curl("GET" if body is None else "POST", found[1], headers, body)


@pytest.fixture(scope="module")
def clients(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, TestClient]]:
    """Of a server that asks for a key, and of one that does not."""
    judgements = str(tmp_path_factory.mktemp("kept") / "judgements.jsonl")
    settings: dict[str, Any] = {"prefix": "/infinity", "judgements": judgements}
    bundle = run_folder / "bundle"
    with serving_bundle(bundle, **settings) as free, serving_bundle(bundle, KEY, **settings) as closed:
        yield {False: free, True: closed}


@pytest.mark.parametrize("words", named("curl"))
def test_requests_are_answered(words: list[str], clients: dict[bool, TestClient]) -> None:
    asked = curl(words)
    client = clients["Authorization" in asked.headers]
    answer = client.request(asked.method, asked.path, headers=asked.headers, json=asked.body)
    assert answer.status_code == (204 if asked.path == "/judgements" else 200), answer.text
    if "rerank" in asked.path:
        found = answer.json()
        scores = [
            result.get("score", result.get("relevance_score"))
            for result in (found if isinstance(found, list) else found["results"])
        ]
        assert scores == sorted(scores, reverse=True)
        assert scores


def test_a_key_is_asked_for_where_the_page_says_so(clients: dict[bool, TestClient]) -> None:
    assert clients[True].post("/search", json={"query": "knead dough"}).status_code == 401
    for path in ("/health", "/ready", "/docs", "/openapi.json"):
        assert clients[True].get(path).status_code == 200


def test_every_path_of_the_api_is_on_the_page(clients: dict[bool, TestClient]) -> None:
    page = (ROOT / "docs" / "server.md").read_text()
    assert all(path in page for path in clients[False].get("/openapi.json").json()["paths"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
        ]


def test_limits_are_those_of_the_settings() -> None:
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (\d+) \|", (ROOT / "docs" / "server.md").read_text(), re.MULTILINE)
    assert {name: float(value) for name, value in rows} == {name: getattr(ServerConfig(), name) for name, _ in rows}
    assert len(rows) >= 6


def test_every_setting_of_the_server_is_on_its_page() -> None:
    text = (ROOT / "docs" / "server.md").read_text()
    assert [name for name in ServerConfig.model_fields if f"`{name}`" not in text] == []


def test_records_of_another_engine_are_read_as_the_page_has_them(tmp_path: Path) -> None:
    (lines,) = [block.text for block in blocks("json") if block.page == "server.md"]
    (tmp_path / "clicks.jsonl").write_text(lines)
    events = read_events([tmp_path / "clicks.jsonl"])
    assert ([said.kind for said in events.said], events.broken) == (["click", "judgement"], 0)
    assert events.shown == {"s1": ["bread-1", "bread-5", "bread-2"]}


def test_settings_that_pages_name_exist() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for name in re.findall(r"`([a-z_]+)=[^`]*`", text):
        assert name in {"key", *ServerConfig.model_fields}, name


def test_bodies_that_are_sent_elsewhere_are_json() -> None:
    for block in blocks("text"):
        for body in re.findall(r"--json '(.*?)'", block.text, re.DOTALL):
            assert isinstance(json.loads(body), dict)


def test_yaml_is_yaml() -> None:
    assert all(yaml.safe_load(block.text) for block in blocks("yaml"))


def test_the_ranker_of_milvus_is_one() -> None:
    pytest.importorskip("pymilvus")
    made: dict[str, Any] = {}
    exec(compile(python_of("milvus.md"), "milvus.md", "exec"), made)
    assert made["ranker"].params["provider"] == "tei"


@pytest.fixture
def help_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the script of data.md makes of articles and clicks."""
    monkeypatch.chdir(tmp_path)
    articles = [{"id": i, "title": f"Title {i}", "body": f"<p>Text&nbsp;{i} &amp; more</p>"} for i in range(30)]
    Path("articles.jsonl").write_text("".join(json.dumps(article) + "\n" for article in [*articles, articles[0]]))
    clicks = [("forgot  my Password", 1), ("Forgot my password", 2), ("nothing, clicked", ""), ("gone", 99)]
    clicks += [(f"question {i}", i) for i in range(3, 30)]
    with Path("clicks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("query", "article_id"), *clicks])
    exec(compile(python_of("data.md"), "data.md", "exec"), {})
    return tmp_path / "data" / "help"


def test_the_script_makes_a_collection_of_a_log(help_desk: Path, tmp_path: Path) -> None:
    found = Collection.read(help_desk, tmp_path / "stored", dev_share=0.0)
    assert len(found.documents) == 30
    assert found.documents.by_id("7") == Document("7", "Title 7", " Text\xa07 & more ")
    assert len(found.queries) == 30
    assert found.queries["q0"] == "forgot my password"
    assert found.split("train")["q0"] == {"1": 1, "2": 1}
    assert set(found.queries) - set(found.split("train")) == {"q1", "q2"}  # without a click, or with one on nothing
    cut = Collection.read(help_desk, tmp_path / "cut", test_share=0.1)
    assert {name: len(qrels) for name, qrels in cut.qrels.items()} == {"test": 3, "dev": 2, "train": 23}


def test_the_script_makes_a_run_of_an_engine(help_desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answered(request: urllib.request.Request) -> io.BytesIO:
        assert isinstance(request.data, bytes)
        asked.append(json.loads(request.data)["query"]["multi_match"]["query"])
        hits = [{"_id": doc_id, "_score": score} for doc_id, score in (("3", 2.5), ("unknown", 2), ("4", 2))]
        return io.BytesIO(json.dumps({"hits": {"hits": hits}}).encode())

    monkeypatch.setattr(urllib.request, "urlopen", answered)
    exec(compile(python_of("your-engine.md"), "your-engine.md", "exec"), {})
    found = read_trec(Path("engine.trec"))
    assert len(asked) == len(found) == 30
    assert asked[0] == "forgot my password"
    assert found["q0"].doc_ids == ("3", "4")
    stored = Collection.read(help_desk, Path("stored"), dev_share=0.0)
    given = Given.build(["engine.trec"], stored.documents, stored.queries)
    assert [stored.documents.ids[row] for row in given.search(["question 5"], 10)[0].rows] == ["3", "4"]


@pytest.mark.slow
def test_exports_have_the_names_of_the_pages_and_their_python_runs(run_folder: Path, tmp_path: Path) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    asked = [cli._parser().parse_args(words[1:]) for _, words in COMMANDS if words[:2] == ["secondstage", "export"]]
    targets = {name for parsed in asked if parsed.output for name in parsed.to}
    exported = tmp_path / "exported"
    cli.main(["export", str(run_folder / "bundle"), "--to", *sorted(targets), "--output", str(exported)])
    text = "".join(page.read_text() for page in PAGES)
    for path in set(re.findall(r"exported/[\w./-]*\w", text)):
        assert (tmp_path / path).exists(), path
    for page in ("vllm.md", "qdrant.md"):
        if page == "qdrant.md":
            pytest.importorskip("fastembed", reason="fastembed is not installed: make install")
        made: dict[str, Any] = {}
        exec(compile(python_of(page).replace("exported/", f"{exported}/"), page, "exec"), made)
        assert all(float(score) == float(score) for score in made["scores"])


def test_metrics_that_the_page_names_are_there(clients: dict[bool, TestClient]) -> None:
    clients[False].post("/search", json={"query": ""})  # so that a refusal was counted
    metrics = clients[False].get("/metrics").text
    named = re.findall(r"(secondstage_\w+)(?:\{(\w+)=)?", (ROOT / "docs" / "server.md").read_text())
    assert len(named) >= 2
    for name, label in named:
        assert re.search(rf"^{name}\{{.*{label}=" if label else rf"^{name} ", metrics, re.MULTILINE), name
