"""Texts to unit vectors, with any sentence-transformers model, in batches of about equal cost."""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .compute import device, resolve
from .files import fingerprint, folder_digests, writing
from .models import loading, quiet_transformers
from .pieces import pieces

Vectors = npt.NDArray[np.float32]

# Texts that are tokenised together, neighbours in length.
BLOCK = 512
# Of long ones so many characters: they are tokenised whole, in a hundred bytes a token.
CHARACTERS = 1 << 24
# What the `batch_size` of a config stands for: so many texts of this many tokens. A processor works fastest where a
# batch stays in its caches, an accelerator where it fills its memory.
USUAL_TOKENS = {"cpu": 32}
USUAL_TOKENS_ELSEWHERE = 512
# Batches are as wide as a multiple of this: oneDNN keeps kernels for every shape it has met, 25 MiB for 500 texts.
WIDTHS = 8


class Encoder:
    """A bi-encoder (Reimers and Gurevych 2019) as it computes here.

    Attributes:
        model: the `SentenceTransformer`, with its published weights.
        batch_size: how many texts of usual length share a batch; of longer ones fewer, of shorter ones more.
    """

    def __init__(self, model: Any, batch_size: int = 64) -> None:
        self.model = model
        self.batch_size = batch_size
        self._precision = resolve("auto")
        self._restore = restorer(model)

    @classmethod
    def load(cls, name: str, *, max_length: int | None = None, batch_size: int = 64) -> Encoder:
        """Load a model by name. `UserError` if it cannot be."""
        model = loading(name, _load)
        if max_length is not None:
            model.max_seq_length = min(max_length, model.max_seq_length or max_length)
        return cls(model, batch_size)

    def save(self, folder: Path) -> None:
        """Write the model, in its published precision: the same files whether it has encoded before or not."""
        self._restore()
        with quiet_transformers():
            self.model.save(str(folder), create_model_card=False)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self.model.get_embedding_dimension())

    @cached_property
    def digest(self) -> str:
        """Of everything that decides a vector but the text and the prompt: weights, modules, tokenizer, precision.

        Taken from the loaded model, not from its name: the same for a copy elsewhere, another for other weights.
        """
        self._restore()
        return model_digest(self.model, self.model.truncate_dim, self._precision)

    def encode(self, texts: Sequence[str], prompt: str = "", advance: Callable[[int], object] | None = None) -> Vectors:
        """`[n, dimension]` vectors of length 1; `advance` hears of every so many texts that are done.

        The texts are put through the model's own preprocessing and modules, longest first, and batched by tokens: a
        batch is as wide as its longest text, and the work of all batches is alike.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for piece in pieces(order.tolist(), lambda row: len(texts[row]), count=BLOCK, total=CHARACTERS):
            rows = np.array(piece)
            for places, found in self._batches([texts[int(row)] for row in rows], prompt):
                vectors[rows[places]] = found
            if advance is not None:
                advance(len(rows))
        return vectors

    def _batches(self, texts: list[str], prompt: str) -> Iterator[tuple[npt.NDArray[np.int64], Vectors]]:
        """Places in `texts` and their vectors."""
        import torch

        with torch.inference_mode():
            features = self._working.preprocess(texts, prompt=prompt or None)
            mask = features.get("attention_mask")
            if not _plain(features, len(texts)) or not isinstance(mask, torch.Tensor):
                # An input of its own kind (flattened, bags of tokens): the library knows how to batch it.
                found = self._working.encode(
                    texts,
                    prompt=prompt or None,
                    batch_size=self.batch_size,
                    show_progress_bar=False,
                    convert_to_tensor=True,
                )
                yield np.arange(len(texts)), _unit(found)
                return
            tokens = USUAL_TOKENS.get(self._working.device.type, USUAL_TOKENS_ELSEWHERE)
            for places, columns in pack(mask.numpy(), self.batch_size * tokens):
                rows = torch.from_numpy(places)
                batch = {
                    name: value[rows][:, columns].to(self._working.device) if torch.is_tensor(value) else value
                    for name, value in features.items()
                }
                yield places, _unit(self._working(batch)["sentence_embedding"], self.model.truncate_dim)

    @cached_property
    def _working(self) -> Any:
        """The model as it computes; the one that is saved keeps the published weights."""
        import torch

        model = copy.deepcopy(self.model).to(torch.bfloat16) if self._precision == "bf16" else self.model
        return model.eval()


def model_digest(model: Any, *settings: object) -> str:
    """Of a sentence-transformers model: weights, modules, tokenizer, length limit; and of further settings."""
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(_bytes(tensor))
    configs = [_config(module) for module in model.modules()]
    return fingerprint(weights.hexdigest(), configs, _tokenizer(model), model.max_seq_length, *settings)


def restorer(model: Any) -> Callable[[], None]:
    """What puts a sentence-transformers model back as it is now: encoding changes what saving writes down.

    A fast tokenizer keeps how it cut and padded last, and SPLADE's pooling how wide its input was.
    """
    unset = [module for module in model.modules() if vars(module).get("embedding_dimension", 0) is None]
    inner = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    truncation, padding = (None, None) if inner is None else (inner.truncation, inner.padding)

    def restore() -> None:
        for module in unset:
            module.embedding_dimension = None
        if inner is not None:
            _ = inner.no_truncation() if truncation is None else inner.enable_truncation(**truncation)
            _ = inner.no_padding() if padding is None else inner.enable_padding(**padding)

    return restore


def pack(mask: npt.NDArray[Any], budget: int) -> Iterator[tuple[npt.NDArray[np.int64], slice]]:
    """Cut tokenised texts into batches of at most `budget` tokens with padding, or of one text.

    Args:
        mask: `[texts, width]` attention mask, padded on either side.
        budget: tokens per batch.

    Yields:
        The rows of a batch, longest first, and the columns that hold all their tokens.
    """
    lengths = mask.sum(axis=1)
    left = bool(mask.shape[1]) and not mask[:, 0].all()
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = min(mask.shape[1], -(-max(1, int(lengths[order[start]])) // WIDTHS) * WIDTHS)
        rows = order[start : start + max(1, budget // width)]
        start += len(rows)
        yield rows, slice(mask.shape[1] - width, None) if left else slice(0, width)


def _plain(features: Mapping[str, Any], count: int) -> bool:
    """Whether every tensor is `[texts, width]`, so that rows and columns can be taken."""
    import torch

    shapes = {tuple(value.shape) for value in features.values() if torch.is_tensor(value)}
    return len(shapes) == 1 and all(len(shape) == 2 and shape[0] == count for shape in shapes)


def _unit(embeddings: Any, dimension: int | None = None) -> Vectors:
    # In single precision: a bf16 norm is off by up to a half per cent, which reorders neighbours.
    embeddings = embeddings[:, :dimension].float()
    unit = embeddings / embeddings.norm(dim=1, keepdim=True).clamp_min(1e-12)
    found: Vectors = unit.cpu().numpy()
    return found


def _bytes(tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(memoryview(flat.view(torch.uint8).numpy())) if flat.numel() else b""


def _config(module: Any) -> list[object]:
    """The kind of a module and its settings, where it tells them; without names, paths and versions."""
    settings: dict[str, Any] = {}
    if hasattr(module, "get_config_dict"):
        settings |= module.get_config_dict()
    if hasattr(getattr(module, "config", None), "to_dict"):
        settings |= module.config.to_dict()
    left_out = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_commit_hash")
    return [type(module).__name__, {name: value for name, value in settings.items() if name not in left_out}]


def _tokenizer(model: Any) -> dict[str, str]:
    """The digests of its files."""
    tokenizer = getattr(model, "tokenizer", None)
    with tempfile.TemporaryDirectory() as folder, writing(Path(folder)):
        if hasattr(tokenizer, "save_pretrained"):
            with quiet_transformers():
                tokenizer.save_pretrained(folder)  # type: ignore[union-attr]
        elif hasattr(tokenizer, "save"):
            tokenizer.save(str(Path(folder) / "tokenizer.json"))  # type: ignore[union-attr]
        return folder_digests(Path(folder))


def _load(place: str) -> Any:
    from sentence_transformers import SentenceTransformer

    with quiet_transformers():
        return SentenceTransformer(place, device=device())
