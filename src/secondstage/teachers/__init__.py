"""Teachers: slow, strong models that score every candidate of a training list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..config import TeacherConfig
from ..errors import UserError
from ..files import file_digest, fingerprint
from ..models import identity as model_identity
from ..models import read_config
from ..networks import check_outputs, check_padding
from ..run import Scores, read_trec_scores

if TYPE_CHECKING:
    from ..chat import ChatClient
    from ..remote import RemoteReranker
    from ..scorecache import CachedScorer


# How the classes of models with a head are named, by the kind of teacher.
HEADS = {
    "cross_encoder": ("ForSequenceClassification",),
    "decoder": ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"),
}


class Teacher(Protocol):
    """Whatever orders the candidates of a query: a cross-encoder, a decoder, a listwise LLM, an API, a file."""

    def score_lists(self, lists: Sequence[tuple[str, Sequence[str]]], *, label: str | None = None) -> list[Scores]:
        """Score the documents of every query.

        Args:
            lists: (query text, document texts) of each list.
            label: shows a progress bar under this name.

        Returns:
            For each list `[documents]` scores in its order: higher is more relevant. Scores of different lists need not
            be on one scale. NaN where the teacher gave none.

        Raises:
            UserError: the teacher cannot be reached, or gave no usable answer.
        """
        ...

    def report(self) -> Mapping[str, Any]:
        """What it cost so far: pairs scored, requests, tokens, price, seconds; for the manifest."""
        ...


def open_teacher(config: TeacherConfig, cache: Path) -> Teacher:
    """Load a model, read a file of scores, or make the client of an endpoint.

    Args:
        config: which teacher.
        cache: the folder where scores and answers are kept, named after all that decides them: teachers never share a
            file unless they are the same, and whatever else scores with the same model uses the same one.

    Raises:
        UserError: the model is not there or cannot score, an address is none, or the key of an endpoint is not set.
    """
    from .listwise import ListwiseTeacher
    from .pointwise import PointwiseTeacher
    from .scoresfile import ScoresFile

    if config.kind == "run":
        return ScoresFile(_scores_file(config))
    if config.kind == "listwise":
        return ListwiseTeacher(
            _chat(config, cache),
            instruction=instruction_of(config),
            window=config.window,
            step=config.step,
            passage_words=config.passage_words,
            max_tokens=config.max_tokens,
        )
    if config.kind == "api":
        from ..remote import keep_remote_scores

        remote = _remote(config)
        name = remote.config.model or remote.config.url
        return PointwiseTeacher(name, keep_remote_scores(remote, cache), remote.report, gaps=True)
    return PointwiseTeacher(config.model, _model(config, cache))


def identities(config: Mapping[str, TeacherConfig]) -> dict[str, str]:
    """The identity of each teacher by its name.

    Raises:
        UserError: as `identity`, or two are the same: both would be paid for.
    """
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, teacher in config.items():
        found[name] = identity(teacher)
        if (other := names.setdefault(found[name], name)) != name:
            raise UserError(
                f"mine.teachers: {other} and {name} are one and the same teacher, and would be paid for twice: leave "
                f"one out; if it is to count for more, raise mine.teachers.{other}.weight"
            )
    return found


def identity(config: TeacherConfig) -> str:
    """What decides whether a teacher is still the same: its model or address, and what changes its scores.

    Of a model only the configuration is read.

    Raises:
        UserError: the model is not there or has no head of this kind, a file of scores is not there or is none, an
            address is none, or the key of an endpoint is not set: so that this is told before the work, not after it.
    """
    settings: list[object] = [config.kind]
    if config.kind == "run":
        path = _scores_file(config)
        read_trec_scores(path)
        settings.append(file_digest(path))
    elif config.kind == "listwise":
        _chat(config, None)
        settings += [instruction_of(config), config.window, config.step, config.passage_words, config.max_tokens]
    elif config.kind == "api":
        _remote(config)
    else:
        check_head(config)
        settings += [model_identity(config.model), config.max_length, config.precision]
        settings += [instruction_of(config)] if config.kind == "decoder" else []
    place = config.endpoint or config.api
    address = place.model_dump(mode="json", include={"url", "model", "api", "document_words"}) if place else None
    return fingerprint(settings, address)


def instruction_of(config: TeacherConfig) -> str:
    """What a decoder or a listwise LLM is told to look for: as the config says, else as the model's score contract."""
    from ..decoder import INSTRUCTION
    from ..pairmodel import read_contract

    own = read_contract(config.model).get("instruction") if config.kind == "decoder" else None
    return config.instruction or own or INSTRUCTION


def _scores_file(config: TeacherConfig) -> Path:
    path = Path(config.run).expanduser()
    if not path.is_file():
        raise UserError(
            f"a teacher of the kind run: {path} is not there; give a TREC run, with the ids of the collection and the "
            "teacher's scores"
        )
    return path


def _chat(config: TeacherConfig, cache: Path | None) -> ChatClient:
    from ..chat import ChatClient, answers_file

    assert config.endpoint is not None
    return ChatClient(config.endpoint, cache=cache and answers_file(cache, config.endpoint), price=config.price)


def _remote(config: TeacherConfig) -> RemoteReranker:
    from ..remote import RemoteReranker

    assert config.api is not None
    return RemoteReranker(config.api, price=config.price)


def _model(config: TeacherConfig, cache: Path) -> CachedScorer:
    from ..reranker import keep_scores
    from ..rerankers import load_reranker

    check_head(config)
    reranker = load_reranker(
        config.model,
        kind="yes_no" if config.kind == "decoder" else "classification",
        instruction=instruction_of(config),
        max_length=config.max_length,
        batch_tokens=config.batch_tokens,
        precision=config.precision,
    )
    return keep_scores(reranker, cache)


def model_teacher(model: str) -> TeacherConfig:
    """The teacher that a model is: a cross-encoder if it has such a head, else a decoder that is asked for yes or no.

    Raises:
        UserError: the model is not there, or has a head of neither kind.
    """
    kinds = read_config(model).architectures or ()
    scores = any(kind.endswith(HEADS["cross_encoder"]) for kind in kinds)
    asked = not scores and any(kind.endswith(HEADS["decoder"]) for kind in kinds)
    config = TeacherConfig(kind="decoder" if asked else "cross_encoder", model=model)
    check_head(config)
    return config


def check_head(config: TeacherConfig) -> None:
    """Raise `UserError` if a model has no trained head of its kind: loading it would draw one, and teach at random.

    So it is if a cross-encoder has several outputs, or scores a pair by those beside it.
    """
    network = read_config(config.model)
    kinds = network.architectures or ()
    wanted = HEADS[config.kind]
    if not any(kind.endswith(wanted) for kind in kinds):
        raise UserError(
            f"model {config.model!r} is {' or '.join(kinds) or 'of no known kind'}, which cannot teach as kind "
            f"{config.kind}: its head would be drawn at random; give a model that was trained as one (…{wanted[0]}), "
            f"or say another kind ({', '.join(HEADS)})"
        )
    if config.kind == "cross_encoder":
        check_outputs(config.model, network)
        check_padding(config.model, network)
