"""A reranker: a cross-encoder that scores query-document pairs, with the contract under which its scores hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .calibration import Calibration
from .collection import Documents
from .compute import Precision, device, resolve
from .errors import UserError
from .files import fingerprint, folder_digests, read_json, write_json, writing
from .models import commit_of, loading, locate, quiet_transformers
from .progress import bar
from .run import Run, Scores
from .scorecache import CachedScorer
from .scoring import LoadedScorer, rerank

CONTRACT = "score.json"
# Pairs that are tokenised and sorted by length at a time.
CHUNK = 8192


class Reranker:
    """A sequence-classification model with one output, its raw logit being the score: higher is more relevant.

    Attributes:
        max_length: tokens of a pair, special tokens included; the longer of query and document is cut first.
        calibration: turns logits into probabilities; none until it was fitted, on dev.
        origin: where it was loaded from, and in which precision it computes; none if it was not loaded.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        batch_tokens: int = 8192,
        calibration: Calibration | None = None,
        origin: tuple[str, Precision] | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.calibration = calibration
        self.origin = origin

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        max_length: int | None = None,
        batch_tokens: int = 8192,
        precision: Precision = "auto",
    ) -> Reranker:
        """Open a folder, a hub id or a package, for scoring.

        Args:
            model: where the model is; see `models.locate`.
            max_length: tokens of a pair; by default what the folder's score contract says, else the tokenizer's limit.
            batch_tokens: tokens scored at once, padding included.
            precision: "auto" is bf16 where the processor has it.

        Raises:
            UserError: the model cannot be found, or has not exactly one output.
        """
        network, tokenizer = load_cross_encoder(str(model))
        place = locate(str(model))
        contract = read_json(Path(place) / CONTRACT) if (Path(place) / CONTRACT).is_file() else {}
        if max_length is None and "max_length" in contract:
            max_length = int(contract["max_length"])
        calibration = contract.get("calibration")
        return cls(
            at_precision(network, precision).to(device()).eval(),
            tokenizer,
            max_length=longest(network, tokenizer, max_length),
            batch_tokens=batch_tokens,
            calibration=None if calibration is None else Calibration.from_json(calibration),
            origin=(place, resolve(precision)),
        )

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and score contract; sentence-transformers' `CrossEncoder` gives the same scores."""
        # CrossEncoder applies a sigmoid unless the config says otherwise, and cuts pairs where the tokenizer says.
        self.model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        self.tokenizer.model_max_length = self.max_length
        with writing(folder), quiet_transformers():
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        contract: dict[str, Any] = {
            "score": "logit",
            "higher_is_better": True,
            "max_length": self.max_length,
            "truncation": "longest_first",
            "document": "title and text, joined by a line break",
        }
        if self.calibration:
            contract["calibration"] = self.calibration.to_json()
        write_json(folder / CONTRACT, contract)

    def score(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> Scores:
        """Score (query text, document text) pairs.

        Args:
            pairs: `[n]` pairs.
            label: shows a progress bar under this name.

        Returns:
            `[n]` logits, in the order of the pairs.

        Raises:
            UserError: a score is not finite, so no order can be made of it.
        """

        def forward(part: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Any]]:
            encoded = self.tokenize(part)
            for places in token_budget(list(map(len, encoded["input_ids"])), self.batch_tokens):
                batch = pad(self.tokenizer, encoded, places).to(device())
                yield places, self.model(**batch).logits[:, 0]

        scores = score_in_chunks(pairs, forward, label=label)
        if not np.isfinite(scores).all():
            raise UserError("the reranker gave a score that is not finite: its weights are broken; train it again")
        return scores

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[list[int]]]:
        """Token ids of pairs, cut to `max_length`, not padded."""
        queries, documents = zip(*pairs, strict=True)
        encoded: Mapping[str, list[list[int]]] = self.tokenizer(
            list(queries), list(documents), truncation=True, max_length=self.max_length
        )
        return encoded

    def rerank(self, run: Run, queries: Mapping[str, str], documents: Documents, *, label: str | None = None) -> Run:
        """Order every list of `run` by this model's scores; equal scores keep the run's order.

        Args:
            run: the first stage's lists.
            queries: texts by query id.
            documents: the corpus.
            label: shows a progress bar under this name.
        """
        return rerank(self, run, queries, documents, label=label)

    def probabilities(self, scores: Scores) -> list[float] | list[None]:
        """The probability of each candidate of one query to be relevant; nones if the reranker was never calibrated.

        Args:
            scores: `[candidates]` logits, of all of them.
        """
        return self.calibration.of_list(scores).tolist() if self.calibration else [None] * len(scores)


def keep_scores(scorer: LoadedScorer, folder: Path, *parts: object) -> CachedScorer:
    """Keep every score of a loaded model in a file below `folder`, so that none is computed twice.

    The file is named after all that decides a score: weights, tokenizer, length and precision, and `parts` besides,
    such as the seed of a head that was drawn, or the template of a prompt.
    """
    if scorer.origin is None:
        raise ValueError("scores are kept of models that were loaded: nothing else tells them apart")
    place, precision = scorer.origin
    if Path(place).is_dir():
        # The contract may gain a calibration, which changes no logit.
        digests: object = {name: digest for name, digest in folder_digests(Path(place)).items() if name != CONTRACT}
    else:
        digests = [place, commit_of(place)]
    name = fingerprint(digests, precision, scorer.max_length, parts)[:16]
    return CachedScorer(scorer, folder / f"{name}.scores")


def longest(network: Any, tokenizer: Any, wanted: int | None) -> int:
    """The tokens of a pair that a model can read, and no more than `wanted`.

    Some configurations say nothing or -1 of their positions: then the tokenizer's limit stands.
    """
    positions = getattr(network.config, "max_position_embeddings", None) or -1
    limits = [tokenizer.model_max_length, wanted, positions if positions > 0 else None]
    return int(min(limit for limit in limits if limit is not None))


def load_cross_encoder(model: str, **settings: Any) -> tuple[Any, Any]:
    """Open a sequence-classification model with one output, and its tokenizer.

    An encoder without such a head gets a new one, with weights drawn from torch's global generator. `settings` go to
    `from_pretrained`.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet_transformers():
        # In single precision, whatever the file holds: training needs it, and scoring casts it again.
        settings = {"dtype": "float32"} | ({} if "config" in settings else {"num_labels": 1}) | settings
        network = loading(model, lambda place: AutoModelForSequenceClassification.from_pretrained(place, **settings))
        return network, loading(model, AutoTokenizer.from_pretrained)


def at_precision(network: Any, precision: Precision) -> Any:
    """Cast a model that will only score. In bf16 its last layer stays in single precision.

    A bf16 logit has three digits: candidates would tie that the model does tell apart. Casting once is faster than
    autocast, which casts weights and activations again for every batch.
    """
    import torch

    if resolve(precision) == "fp32":
        return network.float()
    network = network.to(torch.bfloat16)
    heads = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear) and layer.out_features == 1]
    if heads:
        heads[-1].float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return network


def score_in_chunks(
    pairs: Sequence[tuple[str, str]],
    forward: Callable[[Sequence[tuple[str, str]]], Iterable[tuple[list[int], Any]]],
    *,
    label: str | None = None,
) -> Scores:
    """`[n]` scores of pairs, a chunk at a time, without gradients.

    Args:
        pairs: `[n]` pairs.
        forward: from a chunk of pairs to the places and the scores, a tensor, of each of its batches.
        label: shows a progress bar under this name.
    """
    import torch

    scores = np.zeros(len(pairs), np.float32)
    progress = bar(total=len(pairs), label=label, unit="pair") if label else None
    with torch.inference_mode():
        for start in range(0, len(pairs), CHUNK):
            for places, found in forward(pairs[start : start + CHUNK]):
                scores[np.array(places) + start] = found.float().cpu().numpy()
                if progress:
                    progress.update(len(places))
    if progress:
        progress.close()
    return scores


def token_budget(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group indices of similar length so that each padded batch holds at most `batch_tokens` tokens.

    Longest first: memory runs out at once or not at all. A text longer than the budget is a batch of its own.
    """
    batch: list[int] = []
    width = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and width * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        if not batch:
            width = lengths[i]
        batch.append(i)
    if batch:
        yield batch


def pad(tokenizer: Any, encoded: Mapping[str, list[list[int]]], places: Sequence[int]) -> Any:
    """The chosen rows as tensors `[rows, longest row]`."""
    return tokenizer.pad({key: [rows[i] for i in places] for key, rows in encoded.items()}, return_tensors="pt")
