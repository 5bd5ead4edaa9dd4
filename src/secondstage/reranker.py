"""A reranker: a cross-encoder that scores query-document pairs, with the contract under which its scores hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .compute import Precision, device, resolve
from .documenttokens import DocumentTokens, layout_of
from .files import CARD, fingerprint, folder_digests
from .models import commit_of, locate
from .networks import at_precision, load_cross_encoder, longest
from .pairmodel import CONTRACT, PairModel, calibration_of, read_contract
from .pairtext import WORDS, writes_words
from .scorecache import CachedScorer


class Reranker(PairModel):
    """A sequence-classification model with one output, its raw logit being the score: higher is more relevant.

    `max_length` counts special tokens too; the longer of query and document is cut first.
    """

    kind = "classification"
    _documents: DocumentTokens | None = None

    def remember_documents(self) -> None:
        """Keep the tokens of documents: for searches of one collection, where they come again."""
        layout = layout_of(self.tokenizer)
        self._documents = layout and DocumentTokens(self.tokenizer, layout, self.max_length)

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
        contract = read_contract(str(model))
        if max_length is None:
            max_length = contract.get("max_length")
        return cls(
            at_precision(network, precision).to(device()).eval(),
            tokenizer,
            max_length=longest(network, tokenizer, max_length),
            batch_tokens=batch_tokens,
            calibration=calibration_of(contract),
            origin=(locate(str(model)), resolve(precision)),
        )

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[list[int]]]:
        """Token ids of pairs, cut to `max_length`, not padded."""
        if self._documents is not None and (rows := self._documents.rows(pairs, self.max_length)) is not None:
            return rows
        queries, documents = zip(*pairs, strict=True)
        encoded: Mapping[str, list[list[int]]] = self.tokenizer(
            list(queries), list(documents), truncation=True, max_length=self.max_length
        )
        return encoded

    def collate(self, rows: Mapping[str, Sequence[Sequence[int]]], places: Sequence[int]) -> Mapping[str, Any]:
        """The rows at `places` as tensors `[places, longest row]` on the device."""
        features: Mapping[str, Any] = pad(self.tokenizer, rows, places).to(device())
        return features

    def logits(self, features: Mapping[str, Any]) -> Any:
        """`[pairs]` scores in single precision."""
        return self.model(**features).logits[:, 0].float()

    def contract(self) -> dict[str, Any]:
        """How pairs are cut, and the words that the tokenizer writes around them."""
        return {"truncation": "longest_first"} | ({"words": list(WORDS)} if writes_words(self.tokenizer) else {})

    def _write_network(self, network: Any, folder: Path) -> None:
        # sentence-transformers' CrossEncoder applies a sigmoid unless the config says otherwise, and cuts pairs where
        # the tokenizer says: so it gives the same scores.
        network.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        network.save_pretrained(folder)


def keep_scores(scorer: PairModel, folder: Path, *parts: object) -> CachedScorer:
    """Keep every score of a loaded model in a file below `folder`, so that none is computed twice.

    The file is named after all that decides a score: weights, tokenizer, length, precision and the words of a prompt,
    and `parts` besides, such as the seed of a head that was drawn.
    """
    if scorer.origin is None:
        raise ValueError("scores are kept of models that were loaded: nothing else tells them apart")
    place, precision = scorer.origin
    if Path(place).is_dir():
        # The contract may gain a calibration, which changes no logit; the words in it are the scorer's own. The card
        # tells times.
        found = folder_digests(Path(place))
        digests: object = {name: digest for name, digest in found.items() if name not in (CONTRACT, CARD)}
    else:
        digests = [place, commit_of(place)]
    name = fingerprint(digests, precision, scorer.max_length, (*scorer.wording, *parts))[:16]
    return CachedScorer(scorer, folder / f"{name}.scores")


def pad(tokenizer: Any, encoded: Mapping[str, Sequence[Sequence[int]]], places: Sequence[int]) -> Any:
    """The chosen rows as tensors `[rows, longest row]`."""
    return tokenizer.pad({key: [rows[i] for i in places] for key, rows in encoded.items()}, return_tensors="pt")
