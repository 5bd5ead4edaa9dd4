"""The configuration of one run: one YAML, checked as a whole before any work, every fault at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import Faults, UserError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
BUDGETS = ("minutes", "steps", "epochs", "replay")


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are faults, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class CollectionConfig(Section):
    """What to search, for whom: documents, queries and qrels."""

    source: str | None = None
    """A BEIR folder, `pydocs` (the built-in collection), or `hf:<dataset id>`."""
    documents: str | None = None
    """Instead of `source`: a file of documents (BEIR JSON lines or TREC SGML), plain or gzipped."""
    queries: str | None = None
    """Instead of `source`: a file of queries (BEIR JSON lines, TREC topics, or id-tab-text)."""
    qrels: dict[str, str] = {}
    """Instead of `source`: a file of qrels (TREC or BEIR TSV) for each split."""
    dev_share: Share = 0.1
    """Cut from train where the source has no dev split."""
    drop_invalid: bool = False
    """Leave faulty records out, and count them, instead of refusing the collection."""

    @model_validator(mode="after")
    def _one_origin(self) -> CollectionConfig:
        files = bool(self.documents) and bool(self.queries)
        if bool(self.source) == files or (self.source and (self.documents or self.queries or self.qrels)):
            raise ValueError("give either source, or documents, queries and qrels")
        return self


class Bm25Config(Section):
    """BM25 (bm25s), defaults as in Anserini for BEIR."""

    k1: Positive = 0.9
    b: Share = 0.4
    language: str = "english"
    """Of the Snowball stemmer and the stop words; "none" for neither."""


class DenseConfig(Section):
    """A sentence-transformers bi-encoder over a FAISS index."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub id, a folder, or `package:<distribution>` for a model that a Python package carries."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens read of a document; none means the model's own limit."""
    query_prompt: str = ""
    document_prompt: str = ""
    batch_size: Count = 64


class FirstStageConfig(Section):
    """What collects the candidates: the stage that is deployed is the stage that is mined."""

    kind: Literal["bm25", "dense", "hybrid"] = "hybrid"
    bm25: Bm25Config = Bm25Config()
    dense: DenseConfig = DenseConfig()
    fusion: Literal["minmax", "zscore", "rrf"] = "zscore"
    """How a hybrid fuses its two lists."""
    weight: Share = 0.5
    """The dense share of a hybrid's score; the rest is BM25's."""
    depth: Count = 200
    """How many documents each retriever of a hybrid hands to the fusion."""


class MineConfig(Section):
    """How training lists are made from the first stage's candidates."""

    depth: Count = 50
    """Candidates per training query."""
    negatives: Count = 16
    """Negatives kept per training query."""
    max_share: Positive = 0.95
    """A negative's score stays below this share of its positive's."""
    max_queries: Count | None = None
    """Use only so many training queries, chosen by the seed."""
    dev_queries: Count = 300
    """Dev queries whose candidate lists are kept, for the choice of checkpoint and fusion weight."""


class TrainConfig(Section):
    """How the cross-encoder is tuned. Exactly one of minutes, steps, epochs and replay is the budget."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub id, a folder, or `package:<distribution>`: any model with a sequence-classification head."""
    minutes: Positive | None = None
    steps: Count | None = None
    epochs: Positive | None = None
    replay: str | None = None
    """The `train` folder of an earlier run: its steps are repeated exactly, whatever its budget was."""
    negatives: Count = 7
    """Negatives per positive in a training step."""
    max_length: Annotated[int, Field(ge=16)] = 256
    """Tokens of a query-document pair."""
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    """Tokens of one step, padding included."""
    learning_rate: Positive = 1e-4
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Share = 0.0
    """Off by default: on a CPU it costs a quarter of the speed, and a short training does not overfit."""
    clip: Positive = 1.0
    """The gradient's largest norm."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the processor has it."""
    evaluations: Count = 3
    """How often dev is reranked, evenly spread over the budget; the best checkpoint is kept."""
    dev_queries: Count = 100
    dev_depth: Count = 30
    tracker: Literal["none", "wandb"] = "none"

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(BUDGETS)}, not {' and '.join(given) or 'none'}")
        return self


class ServeConfig(Section):
    """The two-stage pipeline."""

    depth: Count = 50
    """Candidates that are reranked."""
    weight: Share | None = None
    """The reranker's share in the final score; none means chosen on dev."""
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class EvaluateConfig(Section):
    """The proof."""

    split: str = "test"
    extra_splits: tuple[str, ...] = ()
    """Further test sets, reported beside."""
    max_queries: Count | None = None
    """Use only so many queries of each split, chosen by the seed; none means all."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Of the bootstrap interval and of the randomisation test."""


class Config(Section):
    """One run."""

    output: str
    seed: Annotated[int, Field(ge=0)] = 13
    collection: CollectionConfig
    first_stage: FirstStageConfig = FirstStageConfig()
    mine: MineConfig = MineConfig()
    train: TrainConfig
    serve: ServeConfig = ServeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `key=value` overrides, and check the whole.

    Raises:
        UserError: the file is missing or no YAML, an override has no `=`, or the values break a rule; all faults are
            in the message, unknown keys with the nearest known one.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold a mapping with the sections {', '.join(Config.model_fields)}")
    return check_config(override(data, overrides), str(path))


def override(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`data` with each `dotted.key=value` set; values are YAML, and `null` removes a key. `data` is left alone."""
    result: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UserError(f"override {item!r} is not of the form key=value, e.g. train.minutes=4")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"override {item!r}: the value is not valid YAML: {error}") from None
        _set(result, key.split("."), value)
    return result


# A section's one-line form: `collection: pydocs` means `collection: {source: pydocs}`.
SHORTHANDS = {"collection": "source", "first_stage": "kind"}
# Setting one of a group by an override takes the others' place.
RIVALS = (BUDGETS,)


def _set(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *parents, last = keys
    if not parents and last in SHORTHANDS and isinstance(value, str):
        parents, last = [last], SHORTHANDS[last]
    for name in parents:
        child = data.get(name)
        if isinstance(child, str) and name in SHORTHANDS:
            child = {SHORTHANDS[name]: child}
        data[name] = dict(child) if isinstance(child, Mapping) else {}
        data = data[name]
    for group in RIVALS:
        if last in group and value is not None:
            for rival in group:
                data.pop(rival, None)
    if value is None:
        data.pop(last, None)
    else:
        data[last] = value


def check_config(data: Mapping[str, Any], subject: str = "config") -> Config:
    """Validate a mapping; `UserError` reports every fault at once."""
    full = {
        key: {SHORTHANDS[key]: value} if key in SHORTHANDS and isinstance(value, str) else value
        for key, value in data.items()
    }
    try:
        return Config.model_validate(_lists_to_tuples(full))
    except ValidationError as error:
        faults = Faults(subject)
        for fault in error.errors():
            faults.add(_in_words(fault))
        raise UserError(faults.report()) from None


def _lists_to_tuples(value: Any) -> Any:
    """YAML has lists, the frozen sections hold tuples; pydantic's strict mode would not convert them."""
    if isinstance(value, Mapping):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _in_words(fault: Any) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location) or "config"
    if fault["type"] == "extra_forbidden":
        known = _keys_at(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")
    if fault["type"] == "missing":
        return f"{key}: required"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{key}: {message}" if fault["type"] == "value_error" else f"{key}: {message}, not {fault['input']!r}"


def _keys_at(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for name in location:
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
        found = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)
