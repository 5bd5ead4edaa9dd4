"""The folder that eland uploads to Elasticsearch as a model of text similarity."""

from __future__ import annotations

from pathlib import Path

from secondstage.errors import UserError

from .parts import Source, copy_reranker, write_readme

# The kinds of networks whose tokenizers Elasticsearch has.
KINDS = ("bert", "deberta-v2", "distilbert", "mpnet", "roberta", "xlm-roberta")
TEXT = """
A folder that eland traces and uploads as a model of `text_similarity`. `FOLDER` is this one.

```bash
pip install 'eland[pytorch]'
eland_import_hub_model --url https://USER:PASSWORD@localhost:9200 --hub-model-id FOLDER \\
  --task-type text_similarity --es-model-id NAME --max-model-input-length MAX_LENGTH --start
```

An inference endpoint, and a search that asks it:

```
PUT _inference/rerank/NAME
{"service": "elasticsearch", "service_settings": {"model_id": "NAME", "num_allocations": 1, "num_threads": 1}}

POST my-index/_search
{
  "retriever": {
    "text_similarity_reranker": {
      "retriever": {"standard": {"query": {"match": {"content": "a query"}}}},
      "field": "content",
      "inference_id": "NAME",
      "inference_text": "a query",
      "rank_window_size": 50
    }
  }
}
```

`content` must hold the title and the text, joined by a line break. The retriever answers
`max(score, 0) + min(exp(score), 1)` of the logit, which keeps the order.
"""


def check(source: Source) -> None:
    """Raise `UserError` if Elasticsearch has no tokenizer for this kind of network."""
    kind = source.config.get("model_type")
    if kind not in KINDS:
        raise UserError(
            f"elasticsearch has no tokenizer for a network of kind {kind!r}, only for {', '.join(KINDS)}: serve it "
            "with TEI (--to safetensors) and call that from an inference endpoint"
        )


def write(source: Source, folder: Path) -> None:
    """Write the layout."""
    copy_reranker(source, folder)
    text = TEXT.replace("MAX_LENGTH", str(source.max_length)).replace("NAME", source.name)
    write_readme(source, folder, f"{source.name}: Elasticsearch", text)
