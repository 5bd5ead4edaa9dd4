"""Reading a configuration: every fault at once, the nearest key, overrides, and the configs that ship."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from secondstage.config import CollectionConfig, Config, ServerConfig, TrainConfig
from secondstage.configfile import check_config, check_section, load_config, override
from secondstage.errors import MAX_SHOWN, UserError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
MINIMAL = "output: runs/x\ncollection: pydocs\ntrain:\n  minutes: 4\n"


def written(folder: Path, text: str = MINIMAL) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
sed: 13
collection:
  sauce: pydocs
  dev_share: 2
first_stage:
  kind: bm52
  dense:
    modle: x
    batch_size: many
  colour: red
mien: {}
train:
  learning_rte: 0.1
  steps: -1
serve: [1]
evaluate:
  extra_splits: [human, 3]
""",
    )
    headline, *faults = refused(path).splitlines()
    assert headline == f"{path}: {len(faults)} faults"
    assert sorted(faults) == sorted(
        [
            "  output: required",
            "  sed: unknown key, did you mean 'seed'?",
            "  collection.sauce: unknown key, did you mean 'source'?",
            "  collection: give either source, or documents, queries and qrels",
            "  collection.dev_share: input should be less than or equal to 1, not 2",
            "  first_stage.kind: input should be 'bm25', 'dense', 'sparse', 'hybrid', 'milvus' or 'run', not 'bm52'",
            "  first_stage.dense.modle: unknown key, did you mean 'model'?",
            "  first_stage.dense.batch_size: input should be a valid integer, not 'many'",
            "  first_stage.colour: unknown key; known are kind, bm25, dense, sparse, milvus, run, retrievers, fusion, "
            "weight, weights, depth",
            "  mien: unknown key, did you mean 'mine'?",
            "  train.learning_rte: unknown key, did you mean 'learning_rate'?",
            "  train.steps: input should be greater than or equal to 0, not -1",
            "  serve: input should be a valid dictionary or instance of ServeConfig, not (1,)",
            "  evaluate.extra_splits.1: input should be a valid string, not 3",
        ]
    )


def test_a_missing_section_and_two_budgets_are_in_one_report(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: x\ntrain:\n  minutes: 4\n  epochs: 1\n")
    assert refused(path).splitlines() == [
        f"{path}: 4 faults",
        "  output: required",
        "  seed: input should be a valid integer, not 'x'",
        "  collection: required",
        "  train: give exactly one of minutes, steps, epochs, replay, not minutes and epochs",
    ]


@pytest.mark.parametrize("other", ["negatives: 0", "bogus: 1"])
def test_two_budgets_are_reported_beside_another_fault_of_the_section(tmp_path: Path, other: str) -> None:
    told = refused(written(tmp_path, f"{MINIMAL}  steps: 5\n  {other}\n"))
    assert "2 faults" in told
    assert "give exactly one of" in told


@pytest.mark.parametrize(
    ("mine", "told"),
    [
        ({"teachers": {"a": {"modell": "x"}}}, "mine.teachers.a.modell: unknown key, did you mean 'model'?"),
        (
            {"teachers": {"a": {"endpoint": {"uri": "x"}}}},
            "mine.teachers.a.endpoint.uri: unknown key, did you mean 'url'?",
        ),
        ({"synthesize": {"kindz": ["claim"]}}, "mine.synthesize.kindz: unknown key, did you mean 'kinds'?"),
    ],
)
def test_the_nearest_key_is_found_however_deep(mine: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config({"output": "x", "collection": "x", "train": {"steps": 1}, "mine": mine})
    assert told in [line.strip() for line in str(caught.value).splitlines()]


def test_very_many_faults_are_counted() -> None:
    with pytest.raises(UserError) as caught:
        check_config({"output": "x", "collection": "x", "train": {"steps": 1}, **{f"key{i}": i for i in range(50)}})
    assert str(caught.value).startswith("config: 50 faults\n")
    assert str(caught.value).endswith(f"… and {50 - MAX_SHOWN} more")


def test_keys_that_are_no_strings_are_faults() -> None:
    with pytest.raises(UserError, match=r"1: keys should be strings"):
        check_config({"output": "x", "collection": "x", "train": {"steps": 1}, 1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("text", ["", "- a list\n", "just words\n", "# only a comment\n", "null\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert refused(path) == (
        f"{path} must hold a mapping with the sections "
        "output, seed, collection, first_stage, warmup, mine, train, distill, serve, evaluate, bakeoff"
    )


@pytest.mark.parametrize(
    "content", [b"a: b: c\n", b"a: [1\n", b"a:\n\t- tab\n", b"a: \xff\n", b"a: \x00\n", b"!!python/name:os.system a\n"]
)
def test_broken_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path} is not valid YAML: ")


@pytest.mark.parametrize(
    ("text", "line"), [(f"{MINIMAL}output: b\n", 5), (f"{MINIMAL}  minutes: 5\n", 5), ("a: {b: 1, b: 1}\n", 1)]
)
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str, line: int) -> None:
    told = refused(written(tmp_path, text))
    assert re.search(rf"the key '\w+' is there twice, and only the last would count.*\n.*line {line}\b", told), told
    assert "'minutes' is there twice" in refused(written(tmp_path), "train={minutes: 1, minutes: 2}")


def test_a_merge_key_may_be_overridden(tmp_path: Path) -> None:
    """And mappings that are alike are not one mapping."""
    text = "output: x\ncollection: &c\n  source: pydocs\n  dev_share: 0.5\ntrain: {steps: 1}\n"
    path = written(tmp_path, text.replace("source: pydocs", "<<: &s {source: a}\n  source: pydocs"))
    assert load_config(path).collection == load_config(written(tmp_path, text)).collection


@pytest.mark.parametrize("text", ["output: x\ntrain: &a {loss: *a}\n", f"output: {'[' * 5000}{']' * 5000}\n"])
def test_a_config_without_end_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert refused(path).startswith(f"{path} is nested without end")


def test_a_section_whose_keys_are_commented_out_has_its_defaults(tmp_path: Path) -> None:
    emptied = ("first_stage:", "mine: {false_negatives: , quotas: }", "serve:", "evaluate:", "evaluate: {gate: }")
    for section in emptied:
        assert load_config(written(tmp_path, f"{MINIMAL}{section}\n")) == load_config(written(tmp_path))
    assert load_config(written(tmp_path, f"{MINIMAL}  loss: {{kl: , lce: }}\n  teacher: x\n")).train.loss.keys() == {
        "kl",
        "lce",
    }
    assert refused(written(tmp_path, "output: x\ncollection:\ntrain:\n")).splitlines()[1:] == [
        "  collection: give either source, or documents, queries and qrels",
        "  train: give exactly one of minutes, steps, epochs, replay, not none",
    ]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("train.lr=1", "train.lr: unknown key, did you mean 'learning_rate'?"),
        ("train.budget=1", "train.budget: unknown key; known are model, head,"),
        ("evaluate.extra_splits=human", "input should be a list, e.g. [human], not 'human'"),
        ("first_stage.run=a.trec", "input should be a list, e.g. [a.trec], not 'a.trec'"),
        ("serve.cascade={depth: 3}", "input should be a list, not {'depth': 3}"),
    ],
)
def test_what_is_told_leads_the_right_way(tmp_path: Path, item: str, told: str) -> None:
    assert told in refused(written(tmp_path), item)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert (
        refused(tmp_path / "none.yaml") == f"cannot read the config {tmp_path / 'none.yaml'}: No such file or directory"
    )
    assert refused(tmp_path) == f"cannot read the config {tmp_path}: Is a directory"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_that_ship_are_valid_alone_and_with_the_command_of_their_header(path: Path) -> None:
    assert isinstance(load_config(path), Config)
    header = path.read_text(encoding="utf-8").partition("\n")[0]
    command = re.fullmatch(r"#.*\bsecondstage (demo|run|warmup|mine|train|bundle|evaluate|bakeoff)\b(.*)", header)
    assert command, f"the first line of {path.name} names no command"
    overrides = [word for word in command[2].split() if "=" in word]
    assert isinstance(load_config(path, [*overrides, "train.steps=3"]), Config)


def test_there_are_configs_that_ship() -> None:
    assert "demo.yaml" in [path.name for path in CONFIGS]


# --- overrides


def test_overrides_have_the_type_that_yaml_gives_them(tmp_path: Path) -> None:
    config = load_config(
        str(written(tmp_path)),
        [
            "seed=7",
            "collection.drop_invalid=yes",
            "collection.dev_share=0.25",
            "first_stage.dense.model=a/b",
            "first_stage.dense.query_prompt='query: '",
            "evaluate.extra_splits=[human, hard]",
            "mine={depth: 5, negatives: 2}",
            "output=a=b",
            "train.weight_decay=1.0e-3",
        ],
    )
    assert config.seed == 7
    assert config.collection.drop_invalid is True
    assert (config.collection.source, config.collection.dev_share) == ("pydocs", 0.25)
    assert config.first_stage.dense.model == "a/b"
    assert config.first_stage.dense.query_prompt == "query: "
    assert config.evaluate.extra_splits == ("human", "hard")
    assert (config.mine.depth, config.mine.negatives, config.mine.dev_queries) == (5, 2, 300)
    assert config.output == "a=b"
    assert config.train.weight_decay == 0.001


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "2e5"])
def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str) -> None:
    assert load_config(written(tmp_path), [f"train.learning_rate={text}"]).train.learning_rate == float(text)


BASE: dict[str, Any] = {"output": "x", "collection": "pydocs", "train": {"minutes": 4, "clip": 2.0}}


@pytest.mark.parametrize(
    ("base", "overrides", "expected"),
    [
        # the shorthand of a section, on a string, on a mapping, on nothing
        ({"collection": "pydocs"}, ["collection=path"], {"collection": {"source": "path"}}),
        (
            {"collection": {"source": "a", "dev_share": 0.5}},
            ["collection=b"],
            {"collection": {"source": "b", "dev_share": 0.5}},
        ),
        ({}, ["collection=path"], {"collection": {"source": "path"}}),
        (
            {"first_stage": {"kind": "dense", "depth": 9}},
            ["first_stage=bm25"],
            {"first_stage": {"kind": "bm25", "depth": 9}},
        ),
        # a key below a shorthand keeps what the shorthand says
        ({"collection": "a"}, ["collection.dev_share=0.5"], {"collection": {"source": "a", "dev_share": 0.5}}),
        ({"first_stage": "dense"}, ["first_stage.bm25.k1=2"], {"first_stage": {"kind": "dense", "bm25": {"k1": 2}}}),
        # a mapping takes the whole section's place
        (
            {"collection": {"source": "a", "dev_share": 0.5}},
            ["collection={source: b}"],
            {"collection": {"source": "b"}},
        ),
        # null removes what has no null or has it by default, also what is not there
        ({"seed": 3}, ["seed=null"], {}),
        ({"seed": 3}, ["seed="], {}),
        ({"mine": {"depth": 3, "negatives": 2}}, ["mine.depth=~"], {"mine": {"negatives": 2}}),
        ({"mine": {"depth": 3}}, ["mine=null"], {}),
        ({"collection": "a"}, ["collection=null"], {}),
        ({}, ["seed=null"], {}),
        # one budget takes the place of another
        ({"train": {"steps": 5, "clip": 2}}, ["train.minutes=4"], {"train": {"minutes": 4, "clip": 2}}),
        ({"train": {"replay": "x"}}, ["train.epochs=1"], {"train": {"epochs": 1}}),
        ({"train": {"steps": 5}}, ["train.minutes=null"], {"train": {"steps": 5}}),
        ({"train": {"steps": 5}}, ["train.steps=null", "train.epochs=2"], {"train": {"epochs": 2}}),
        # the last one wins
        ({}, ["seed=1", "seed=2"], {"seed": 2}),
        ({}, ["train.steps=1", "train.minutes=2"], {"train": {"minutes": 2}}),
        # sections that are not there yet
        ({}, ["a.b.c=1", "a.b.d=[2]"], {"a": {"b": {"c": 1, "d": [2]}}}),
        # null is a value where it is one, and not the default; in the file as well
        ({}, ["mine.max_share=null"], {"mine": {"max_share": None}}),
        ({"mine": {"max_share": None}}, ["mine.max_share="], {"mine": {"max_share": None}}),
        ({"mine": {"max_share": 0.5, "max_queries": 5}}, ["mine.max_queries=~"], {"mine": {"max_share": 0.5}}),
        ({}, ["mine.false_negatives.relabel_most=null"], {"mine": {"false_negatives": {"relabel_most": None}}}),
        ({}, ["warmup.max_documents=null"], {"warmup": {"max_documents": None}}),
        # a key below the short form of a loss keeps what the short form says
        ({"train": {"loss": "lce"}}, ["train.loss.listnet=0.5"], {"train": {"loss": {"lce": {}, "listnet": 0.5}}}),
        (
            {"distill": {"student": {"loss": {"kl": 1.0, "lce": 0.2}}}},
            ["distill.student.loss.lce.temperature=2"],
            {"distill": {"student": {"loss": {"kl": 1.0, "lce": {"weight": 0.2, "temperature": 2}}}}},
        ),
        (
            {"train": {"loss": "lce"}},
            ["train.loss.lce.temperature=2"],
            {"train": {"loss": {"lce": {"temperature": 2}}}},
        ),
        # documents take the place of a source, and a source of them
        (
            {"collection": "pydocs"},
            ["collection.documents=d", "collection.queries=q"],
            {"collection": {"documents": "d", "queries": "q"}},
        ),
        ({"collection": {"source": "a"}}, ["collection.documents=null"], {"collection": {"source": "a"}}),
        (
            {"collection": {"documents": "d", "queries": "q", "qrels": {"test": "t"}, "dev_share": 0.5}},
            ["collection=b"],
            {"collection": {"source": "b", "dev_share": 0.5}},
        ),
        (
            {"mine": {"synthesize": {"source": 1}}},
            ["mine.synthesize.documents=2"],
            {"mine": {"synthesize": {"source": 1, "documents": 2}}},
        ),
    ],
)
def test_what_an_override_makes_of_a_mapping(
    base: dict[str, Any], overrides: list[str], expected: dict[str, Any]
) -> None:
    before = copy.deepcopy(base)
    assert override(base, overrides) == expected
    assert base == before


@pytest.mark.parametrize(
    ("base", "item", "told"),
    [
        ({"seed": 3}, "seed.x=2", "seed is 3, which has no keys"),
        ({"train": 5}, "train.minutes=4", "give train whole"),
        ({"serve": {"cascade": [{"depth": 3}]}}, "serve.cascade.0.depth=5", "give serve.cascade whole"),
        ({"train": {"loss": {"lce": "x"}}}, "train.loss.lce.temperature=2", "give train.loss.lce whole"),
    ],
)
def test_an_override_within_what_is_no_section_throws_nothing_away(base: Any, item: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        override(base, [item])


def test_a_null_in_an_override_is_the_null_of_the_file() -> None:
    """Of every key that can be none, at any depth."""

    def nullable(section: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        for key, value in section.items():
            if isinstance(value, dict) and value:
                yield from nullable(value, f"{prefix}{key}.")
            else:
                yield prefix + key

    base = {**BASE, "warmup": {"minutes": 1}, "mine": {"synthesize": {}}}
    checked = 0
    for key in nullable(check_config(base).model_dump()):
        *sections, last = key.split(".")
        written: Any = None
        for name in reversed([*sections, last]):
            written = {name: written}
        try:
            expected = check_config(merged(base, written))
        except UserError:
            continue  # this key cannot be none
        assert check_config(override(base, [f"{key}=null"])) == expected, key
        checked += 1
    assert checked > 30


def merged(one: Mapping[str, Any], other: Any) -> Any:
    if not isinstance(other, Mapping):
        return other
    # What the short form of the collection says.
    own = {"source": one} if isinstance(one, str) else one or {}
    return {**own, **{key: merged(own.get(key, {}), value) for key, value in other.items()}}


def test_a_null_in_a_section_alone_is_one_too() -> None:
    assert check_section(ServerConfig, ["deadline_ms=null"], "x").deadline_ms is None
    assert check_section(ServerConfig, [], "x").deadline_ms == 60_000


def test_an_override_leaves_the_mapping_alone_however_deep() -> None:
    base = {"first_stage": {"dense": {"model": "a"}}, "collection": {"qrels": {"test": "t"}}}
    before = copy.deepcopy(base)
    changed = override(base, ["first_stage.dense.model=b", "collection.qrels.train=r", "collection.qrels.test=null"])
    assert base == before
    assert changed == {"first_stage": {"dense": {"model": "b"}}, "collection": {"qrels": {"train": "r"}}}


@pytest.mark.parametrize("item", ["train.minutes", "", "=4", "train.minutes:4"])
def test_a_malformed_override_is_refused_with_an_example(tmp_path: Path, item: str) -> None:
    told = refused(written(tmp_path), item)
    assert told == f"override {item!r} is not of the form key=value, e.g. train.minutes=4"


@pytest.mark.parametrize("item", ["output=[1", "output=a: b: c", "output={"])
def test_an_override_that_is_no_yaml_is_refused(tmp_path: Path, item: str) -> None:
    assert refused(written(tmp_path), item).startswith(f"override {item!r}: the value is not valid YAML: ")


def test_a_fault_in_an_override_is_reported_like_one_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL + "sed: 1\n")
    assert refused(path, "trian.minutes=3", "mine.depth=0", "train.steps=2").splitlines() == [
        f"{path}: 3 faults",
        "  mine.depth: input should be greater than or equal to 1, not 0",
        "  sed: unknown key, did you mean 'seed'?",
        "  trian: unknown key, did you mean 'train'?",
    ]


def test_a_removed_key_has_its_default_again_and_a_required_one_is_missed(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL + "seed: 99\n")
    assert load_config(path).seed == 99
    assert load_config(path, ["seed=null"]).seed == 13
    assert refused(path, "output=null").splitlines()[1:] == ["  output: required"]
    assert refused(path, "train.minutes=null").endswith("not none")


def test_shorthands_stand_for_the_first_key_of_their_section() -> None:
    long = {**BASE, "collection": {"source": "pydocs"}, "first_stage": {"kind": "bm25"}}
    assert check_config({**BASE, "first_stage": "bm25"}) == check_config(long)


@pytest.mark.parametrize("output", ["runs/x", "a b", "über", "2024", "null", "[x]", "a: b", "#x", "C:\\x", "it's"])
def test_a_value_in_json_is_taken_literally(output: str) -> None:
    """So the demo hands its output folder on."""
    assert check_config(override(BASE, [f"output={json.dumps(output, ensure_ascii=False)}"])).output == output


# --- further sections


def test_keys_of_inner_sections_are_checked_alike(tmp_path: Path) -> None:
    path = written(tmp_path)
    overrides = [
        "evaluate.gate.margn=0.1",
        "evaluate.remote={ulr: 'http://127.0.0.1'}",
        "serve.max_dept=3",
        "evaluate.gate.leaks=doc",
    ]
    assert sorted(refused(path, *overrides).splitlines()[1:]) == [
        "  evaluate.gate.leaks: input should be 'documents', 'queries' or 'ignore', not 'doc'",
        "  evaluate.gate.margn: unknown key, did you mean 'margin'?",
        "  evaluate.remote.ulr: unknown key, did you mean 'url'?",
        "  evaluate.remote.url: required",
        "  serve.max_dept: unknown key, did you mean 'max_depth'?",
    ]


def test_names_and_lists_of_an_evaluation_are_read(tmp_path: Path) -> None:
    config = load_config(
        written(tmp_path),
        [
            "evaluate.rerankers.teacher=a/b",
            "evaluate.rerankers.off-the-shelf=c/d",
            "evaluate.replicates=[runs/2/bundle, runs/3/bundle]",
            "evaluate.slices={hard: hard.txt}",
            "evaluate.gate.margin=0.01",
            "evaluate.remote={url: 'http://127.0.0.1:9/rerank', api_key_env: KEY}",
        ],
    ).evaluate
    assert config.rerankers == {"teacher": "a/b", "off-the-shelf": "c/d"}
    assert config.replicates == ("runs/2/bundle", "runs/3/bundle")
    assert config.slices == {"hard": "hard.txt"}
    assert (config.gate.margin, config.gate.leaks) == (0.01, "documents")
    assert config.remote is not None
    assert (config.remote.url, config.remote.model, config.remote.api_key_env) == (
        "http://127.0.0.1:9/rerank",
        "",
        "KEY",
    )


def test_no_steps_are_a_budget_that_an_override_can_give(tmp_path: Path) -> None:
    train = load_config(written(tmp_path), ["train.steps=0"]).train
    assert (train.steps, train.minutes) == (0, None)


def test_the_commented_config_names_every_key_and_shows_defaults_unless_it_says_otherwise() -> None:
    (path,) = (path for path in CONFIGS if path.name == "domain.yaml")
    text = path.read_text(encoding="utf-8")
    shown = check_config(yaml.safe_load(text)).model_dump()
    usual = Config(output="", collection=CollectionConfig(source="x"), train=TrainConfig(steps=1)).model_dump()

    def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in section.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    defaults = dict(leaves(usual))
    # These have no default: what is shown is an example.
    examples = {"output", "collection.source", "train.minutes", "train.steps"}
    for key in {key for key, value in leaves(shown) if value != defaults[key]} - examples:
        assert re.search(rf"default[:)][^:]*\n +{key.rpartition('.')[2]}: ", text, re.IGNORECASE), key
    for key in defaults:
        assert re.search(rf"\b{key.rpartition('.')[2]}\b", text), key
