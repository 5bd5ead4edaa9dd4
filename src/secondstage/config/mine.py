"""How training lists are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Count, Positive, Section, Share
from .remote import EndpointConfig, RemoteConfig

Action = Literal["keep", "drop", "ignore", "relabel"]
QueryKind = Literal["question", "keyword", "claim"]


class TeacherConfig(Section):
    """What scores all candidates. Exactly one of model, endpoint, api and run, as the kind needs it."""

    kind: Literal["cross_encoder", "decoder", "listwise", "api", "run"] = "cross_encoder"
    """A cross-encoder; a decoder asked for yes or no; a listwise LLM behind an endpoint; a rerank API; the scores of a
    file."""
    model: str = ""
    """A hub id, a folder or `package:…`, of a cross-encoder or a decoder."""
    max_length: Annotated[int, Field(ge=16)] | None = None
    batch_tokens: Annotated[int, Field(ge=64)] = 8192
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    instruction: str | None = None
    """For a decoder and a listwise LLM; none for that of a decoder's own score contract, else the usual sentence."""
    endpoint: EndpointConfig | None = None
    """Of a listwise LLM: OpenAI's chat completions."""
    api: RemoteConfig | None = None
    """Of a rerank API."""
    run: str = ""
    """A TREC run with the ids of the collection and a teacher's scores. What is not in it has none."""
    window: Annotated[int, Field(ge=2)] = 20
    """Documents that a listwise LLM orders at a time."""
    step: Count = 10
    """By how much its window slides."""
    passage_words: Count = 300
    """Of each document that a listwise LLM is shown."""
    max_tokens: Count | None = None
    """Of a listwise LLM's answer; none means what an order takes. One that reasons first needs thousands."""
    weight: Positive = 1.0
    """In an ensemble."""
    price: Annotated[float, Field(ge=0)] = 0.0
    """Of a million tokens, or of a thousand search units where an API counts these (Cohere), in any currency: for the
    count of what it cost."""

    @model_validator(mode="after")
    def _one_place(self) -> TeacherConfig:
        needed = {"listwise": "endpoint", "api": "api", "run": "run"}.get(self.kind, "model")
        given = [name for name in ("model", "endpoint", "api", "run") if getattr(self, name)]
        if given != [needed]:
            raise ValueError(f"the kind {self.kind} needs {needed}, and nothing else of model, endpoint, api, run")
        if self.step > self.window:
            raise ValueError(f"step {self.step} is more than window {self.window}: documents would be passed over")
        return self


class FalseNegativesConfig(Section):
    """What happens to a candidate that is probably a positive that nobody labelled, by the rule that found it.

    keep: nothing. drop: it is left out. ignore: it is in the list, masked in the loss. relabel: it becomes a positive.
    """

    teacher: Action = "drop"
    """The teacher puts it near the positive or above it; without a teacher the rule does nothing."""
    teacher_share: Positive = 0.95
    """Near: from this share of the positive's score on, in the teacher's scores scaled to 0 … 1 in each list."""
    relabel_most: Count | None = 1
    """With `teacher: relabel`: of a list, only so many become positives, those that the teacher puts highest and above
    every positive (none for all of these); the others that it finds are dropped."""
    duplicate: Action = "drop"
    """Its text is nearly that of a positive."""
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Nearly: from this Jaccard coefficient of character 4-grams on."""
    judged: Action = "relabel"
    """A training query with the same text has it as a positive, or it is judged, but below `mine.positive_from`. What
    is judged for the query itself is never relabelled, but ignored instead."""


class SynthesizeConfig(Section):
    """Queries made from documents."""

    generator: Literal["title", "first_sentence", "local", "endpoint"] = "title"
    """title: no generator, the title, else the first sentence, is the query. first_sentence: always that. local: a
    Hugging Face model. endpoint: an LLM behind OpenAI's chat completions."""
    model: str = ""
    """Of a local generator: a hub id or a folder."""
    prompt: Literal["instruction", "passage"] = "instruction"
    """instruction: the generator is told what to write. passage: it is given the document alone, which is what local
    models like doc2query-T5 were trained on; kinds and examples mean nothing then."""
    batch_size: Count = 8
    """Prompts that a local generator answers at a time."""
    endpoint: EndpointConfig | None = None
    documents: Count | None = 1000
    """Documents that queries are made from, drawn by the seed; none means all."""
    min_words: Count = 10
    """Documents of fewer words are passed over; a title's document is counted without the title. In scripts without
    spaces, characters count."""
    per_document: Count = 3
    """Queries of a document; a title is only one."""
    kinds: tuple[QueryKind, ...] = ("question", "keyword", "claim")
    """In turn."""
    examples: Annotated[int, Field(ge=0)] = 3
    """Training queries with their documents that the generator is shown."""
    max_tokens: Count = 200
    """Of an answer, which holds the queries of one kind and document."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """0 takes the likeliest word every time."""
    passage_words: Count = 300
    """Of the document that the generator is shown."""
    round_trip: Count = 10
    """Kept is a query only if the first stage finds its document among so many."""
    teacher_rank: Count = 3
    """And, where there is a teacher, if it ranks the document among so many of those."""
    price: Annotated[float, Field(ge=0)] = 0.0
    """Of a million tokens, in any currency."""

    @model_validator(mode="after")
    def _one_place(self) -> SynthesizeConfig:
        needed = {"local": ["model"], "endpoint": ["endpoint"]}.get(self.generator, [])
        if [name for name in ("model", "endpoint") if getattr(self, name)] != needed:
            raise ValueError(f"the generator {self.generator} needs {' '.join(needed) or 'neither model nor endpoint'}")
        if not self.kinds:
            raise ValueError("give at least one kind of query")
        if self.prompt == "passage" and self.generator != "local":
            raise ValueError(f"prompt=passage is for local models trained on passages, not for {self.generator}")
        if self.prompt == "passage" and self.temperature == 0 and self.per_document > 1:
            raise ValueError("a passage without temperature gives one query over and over: set per_document to 1")
        return self


class MineConfig(Section):
    """How training lists are made from the first stage's candidates."""

    depth: Count = 50
    """Candidates per training query."""
    negatives: Count = 16
    """Negatives kept per training query."""
    positive_from: Count = 1
    """The lowest relevance that makes a positive."""
    from_rank: Count = 1
    """Candidates before this rank are no negatives; `depth` is the other end of the window."""
    scores: Literal["first_stage", "teacher"] = "first_stage"
    """Whose scores the bounds below and the sampler look at."""
    max_share: Positive | None = 0.95
    """A negative's score stays below this share of its positive's, in scores scaled to 0 … 1 in each list. Neither this
    nor the margin bounds what a person judged irrelevant."""
    margin: float | None = None
    """A negative's score stays at least this far below its positive's."""
    against: Literal["min", "max", "mean"] = "min"
    """Which of several positives decides: the lowest, the highest, or their mean."""
    min_score: float | None = None
    max_score: float | None = None
    sampler: Literal["top", "uniform", "band", "stratified"] = "uniform"
    """top: the hardest. uniform: over the ranks. band: half the hardest, half from the middle. stratified: evenly over
    the range of scores."""
    random_share: Share = 0.0
    """Of the negatives: drawn from the whole corpus instead."""
    quotas: dict[str, Share] = Field(default_factory=dict)
    """The share of the negatives that each retriever is to find, e.g. {bm25: 0.5, dense: 0.5}. What several found
    counts for each, and what a retriever cannot fill goes to the rest."""
    teachers: dict[str, TeacherConfig] = Field(default_factory=dict)
    """By name; several make an ensemble."""
    false_negatives: FalseNegativesConfig = FalseNegativesConfig()
    exclude_leaks: Literal["none", "queries", "documents"] = "none"
    """Leave out training queries that share their text, nearly, with a dev or test query (queries), or also a relevant
    document (documents)."""
    reviewed: str | None = None
    """A reviewed sample: the file `suspicious.tsv` of an earlier audit, with labels corrected."""
    synthesize: SynthesizeConfig | None = None
    """Queries made from documents, beside those of the train split or instead of them."""
    max_queries: Count | None = None
    """Use only so many training queries, chosen by the seed."""
    dev_queries: Count = 300
    """Dev queries that choices are made on: of the checkpoint, the depth, the fusion weight and the threshold."""

    @model_validator(mode="after")
    def _consistent(self) -> MineConfig:
        if self.scores == "teacher" and not self.teachers:
            raise ValueError("scores=teacher needs a teacher in mine.teachers")
        if self.synthesize is not None and self.teachers and all(t.kind == "run" for t in self.teachers.values()):
            raise ValueError(
                "synthesize asks the teachers about queries that no file of scores has: give one that is no run as "
                "well, or leave the teachers out"
            )
        if self.from_rank > self.depth:
            raise ValueError(f"from_rank {self.from_rank} lies behind depth {self.depth}: no candidate is left")
        shares = self.random_share + sum(self.quotas.values())
        if shares > 1 + 1e-9:
            raise ValueError(f"quotas and random_share add up to {shares:g}: shares add up to 1 at most")
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise ValueError(f"min_score {self.min_score:g} is above max_score {self.max_score:g}: no score is left")
        for name in self.teachers:
            if name.split() != [name] or "/" in name:
                raise ValueError(f"{name!r} cannot name a teacher: give one word without a slash")
        return self
