"""What a run reads beside its config and collection: models, files, endpoints; and whether they are still the same."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .backends.record import exported_graph
from .config import (
    MINED,
    TEACHER,
    TRAINED,
    DistillConfig,
    EvaluateConfig,
    MineConfig,
    ServeConfig,
    StudentConfig,
    StudentTraining,
    TrainConfig,
)
from .errors import UserError
from .files import file_digest, fingerprint, read_manifest
from .models import identity, read_config, read_writer
from .networks import check_outputs, check_padding, fitting_tokenizer, has_head
from .pairmodel import read_contract
from .pairtext import check_pairs


def evaluated(config: EvaluateConfig) -> dict[str, str]:
    """What decides whether the further models and files of an evaluation are still the same.

    Raises:
        UserError: one is not there, or cannot be scored, or the key of the API is not set: before the work, not after
            it.
    """
    if config.remote is not None:
        from .remote import RemoteReranker

        RemoteReranker(config.remote)
    for bundle in config.replicates:
        read_manifest(Path(bundle).expanduser(), "bundle")
    for folder in config.exports.values():
        exported_graph(Path(folder).expanduser())
    for model in config.rerankers.values():
        check_trained(model, "evaluate.rerankers")
    models = [*config.rerankers.values(), *config.exports.values(), *config.replicates]
    found = {model: identity(model) for model in models}
    for name, file in config.slices.items():
        path = Path(file).expanduser()
        if not path.is_file():
            raise UserError(f"evaluate.slices: {name}: {path} is not there; give a file of query ids")
        found[f"slice {name}"] = file_digest(path)
    return found


def cascaded(config: ServeConfig) -> list[str]:
    """What decides whether the rerankers before the last one are still the same.

    Raises:
        UserError: one is not there: before the work, not after it.
    """
    models = [stage.model for stage in config.cascade if stage.model is not None]
    for model in models:
        check_trained(model, "serve.cascade")
    return [identity(model) for model in models]


def check_trained(model: str, key: str) -> None:
    """Raise `UserError` if a model that is taken as it is has no head of its kind, which would be drawn at random.

    Weights are not read.
    """
    network, kind = read_config(model), read_contract(model).get("kind", "classification")
    if not has_head(network, kind):
        made = ", ".join(network.architectures or ("of no kind",))
        raise UserError(
            f"{key}: model {model!r} is no trained reranker ({made}): its head would be drawn at random, and order so; "
            "give one that was trained"
        )


def mined_from(config: MineConfig, output: Path | None = None) -> dict[str, str]:
    """What decides whether teachers, generator and reviewed labels are still the same.

    Args:
        config: of the mining.
        output: the run's folder, if there is one: mining anew replaces its `mine/`, a review that lies there as well.

    Raises:
        UserError: one is not there or cannot do it, two teachers are the same, an address is none or a key is not set,
            or the review would be replaced: before the work, not after it.
    """
    from . import teachers

    found = {f"teacher {name}": digest for name, digest in teachers.identities(config.teachers).items()}
    if config.synthesize is not None and config.synthesize.endpoint is not None:
        from .chat import ChatClient

        # Asked later; whether it has an address and a key is told here.
        ChatClient(config.synthesize.endpoint)
    if config.synthesize is not None and config.synthesize.model:
        # Its weights are read when documents are asked about; whether there is such a model is told here.
        read_writer(config.synthesize.model)
        found["generator"] = identity(config.synthesize.model)
    if config.reviewed is not None:
        path = Path(config.reviewed).expanduser()
        if output is not None and path.resolve().is_relative_to((output / "mine").resolve()):
            raise UserError(
                f"mine.reviewed: {path} is in {output / 'mine'}, which is replaced when mine is made again: "
                f"copy it elsewhere first, e.g. to {output / 'reviewed.tsv'}"
            )
        if not path.is_file():
            raise UserError(f"mine.reviewed: {path} is not there; give the suspicious.tsv of an earlier run, reviewed")
        found["reviewed"] = file_digest(path)
    return found


def taught_from(config: DistillConfig, mine: MineConfig) -> dict[str, str]:
    """What decides whether the teacher of a student and its unlabelled queries are still the same.

    Raises:
        UserError: the model is not there or cannot teach, or the file of queries is missing: before the work.
    """
    from . import teachers

    found: dict[str, str] = {}
    if config.teacher == MINED:
        found |= {f"teacher {name}": digest for name, digest in teachers.identities(mine.teachers).items()}
        found["weights"] = fingerprint({name: teacher.weight for name, teacher in mine.teachers.items()})
    elif config.teacher != TRAINED:
        found["teacher"] = teachers.identity(teachers.model_teacher(config.teacher))
    if config.queries is not None:
        path = Path(config.queries).expanduser()
        if not path.is_file():
            raise UserError(f"distill.queries: {path} is not there; give a file of queries, or leave it out")
        # The name says how it is read.
        found["queries"] = fingerprint(path.name, file_digest(path))
    return found


def tuned_from(config: TrainConfig) -> dict[str, str]:
    """What decides whether the model, the teacher and the replayed steps of a training are still the same.

    Raises:
        UserError: one is not there, or the teacher cannot teach: before the work.
    """
    from . import teachers

    # The teacher of a student is what a stage before it made, or is looked for as that stage's own.
    found = {} if isinstance(config, StudentTraining) and config.model == TEACHER else {"model": identity(config.model)}
    check_means(config)
    if config.replay is not None:
        found["replay"] = file_digest(replayed_steps(config.replay))
    if config.teacher is not None:
        found["teacher"] = teachers.identity(teachers.model_teacher(config.teacher))
    return found


def check_model(config: TrainConfig) -> None:
    """Raise `UserError` if a training starts from what is no model, or from one whose score is of another kind, has
    several outputs or depends on other pairs, or whose tokenizer does not fit: before the work, not after it. Weights
    are not read."""
    if isinstance(config, StudentTraining) and config.model == TEACHER:
        return  # which model that is, `check_student` is told
    network = read_config(config.model)
    check_kind(config)
    if config.head == "classification":
        check_outputs(config.model, network)
        check_padding(config.model, network)
    tokenizer = fitting_tokenizer(config.model, network)
    if config.head == "classification" and has_head(network):
        check_pairs(config.model, tokenizer)


def check_student(config: DistillConfig, teacher: str | None, cut: StudentConfig | None = None) -> None:
    """Raise `UserError` if a student cannot start from its model, or from the teacher: before the work, not after it.

    Args:
        config: of the distillation.
        teacher: the model that the student is cut from where its own is `TEACHER`; none if it is not known yet.
        cut: what that model is cut to before.
    """
    student = config.student
    if student.model != TEACHER:
        check_model(student)
        return
    if teacher is None:
        return
    model = student.model_copy(update={"model": teacher})
    if not config.trains:
        from .teachers import model_teacher

        head = "yes_no" if model_teacher(teacher).kind == "decoder" else "classification"
        if head != student.head:
            raise UserError(
                f"the student is cut from the teacher {teacher!r}, whose head is {head}: set "
                f"distill.student.head={head}"
            )
    check_model(model)
    check_layers(model, cut)


def check_layers(config: TrainConfig, cut: StudentConfig | None = None) -> None:
    """Raise `UserError` if a student is to have more layers than its model, or than that is cut to before."""
    if config.student is None:
        return
    wanted = config.student.layers
    there = getattr(read_config(config.model).get_text_config(), "num_hidden_layers", wanted)
    there = min(there, cut.layers) if cut is not None else there
    if wanted > there:
        raise UserError(f"train.student.layers is {wanted}, but {config.model} has {there} layers: give fewer")


def check_kind(config: TrainConfig) -> None:
    """Raise `UserError` if the model is a reranker whose score is of another kind: it would get a new head."""
    kind = read_contract(config.model).get("kind", config.head)
    if kind != config.head:
        key = "distill.student.head" if isinstance(config, StudentTraining) else "train.head"
        raise UserError(
            f"model {config.model!r} is a reranker of kind {kind}, but {key} is {config.head}: set {key}={kind}"
        )


def check_means(config: TrainConfig) -> None:
    """Raise `UserError` if what a training asks for is not there: before the work, not after it."""
    for wanted, package, extra in (
        (config.lora is not None, "peft", "lora"),
        (config.tracker == "tensorboard", "tensorboard", "tensorboard"),
    ):
        if wanted and find_spec(package) is None:
            raise UserError(f"train wants {package}, which is not installed: pip install 'secondstage[{extra}]'")
    if config.precision == "fp16":
        from .compute import resolve

        resolve(config.precision)
    if config.model != TEACHER:
        check_layers(config)


def replayed_steps(replay: str) -> Path:
    """The file of steps that `train.replay` names; `UserError` if there is none."""
    path = Path(replay).expanduser()
    path = path / "steps.jsonl" if path.is_dir() else path
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"train.replay: {path} is not there or is empty; give the train folder of an earlier run")
    return path
