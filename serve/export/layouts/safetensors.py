"""The plain folder: weights in safetensors, tokenizer, configuration."""

from __future__ import annotations

from pathlib import Path

from secondstage.decoder import DecoderReranker

from .parts import Source, copy_reranker, write_length, write_readme

TEXT = """
A folder in Hugging Face's layout, read by sentence-transformers, Text Embeddings Inference, vLLM, Infinity and LanceDB.
`FOLDER` is this one.

## sentence-transformers

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("FOLDER")
print(model.predict([("a query", "a document")]))  # the raw logit: config.json asks for no activation
```

## Text Embeddings Inference

```bash
docker run -p 8080:80 -v FOLDER:/model ghcr.io/huggingface/text-embeddings-inference:cpu-1.9 \\
  --model-id /model --auto-truncate --max-client-batch-size 100
curl localhost:8080/rerank -H 'Content-Type: application/json' \\
  -d '{"query": "a query", "texts": ["a document"], "raw_scores": true, "truncate": true}'
```

Without `raw_scores` it answers the sigmoid. It reads MAX_LENGTH tokens a pair, as `sentence_bert_config.json` says.

## vLLM

```bash
vllm serve FOLDER --runner pooling --max-model-len MAX_LENGTH
curl localhost:8000/rerank -H 'Content-Type: application/json' \\
  -d '{"model": "FOLDER", "query": "a query", "documents": ["a document"], "truncate_prompt_tokens": MAX_LENGTH}'
```

It answers the sigmoid.

## Infinity

```bash
infinity_emb v2 --model-id FOLDER --port 7997
curl localhost:7997/rerank -H 'Content-Type: application/json' \\
  -d '{"model": "NAME", "query": "a query", "documents": ["a document"], "raw_scores": true}'
```

## LanceDB

```python
from lancedb.rerankers import CrossEncoderReranker

reranker = CrossEncoderReranker(model_name="FOLDER", column="text")
```
"""
DECODER = """
A decoder that answers yes or no, in Hugging Face's layout. `FOLDER` is this one. Its score is the difference of the two
answers' logits; the prompt is in `score.json`.

```python
from secondstage.rerankers import load_reranker

print(load_reranker("FOLDER").score([("a query", "a document")]))
```

vLLM serves it where the family is one that it knows as a reranker; give it the prompt of `score.json`.
"""


def write(source: Source, folder: Path) -> None:
    """Write the layout."""
    copy_reranker(source, folder)
    write_length(source, folder)
    decoder = source.contract.get("kind") == DecoderReranker.kind
    text = (DECODER if decoder else TEXT).replace("MAX_LENGTH", str(source.max_length)).replace("NAME", source.name)
    write_readme(source, folder, f"{source.name}: safetensors", text)
