"""The plain folder with a graph in it: `onnx/model.onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secondstage.networks import load_tokenizer
from secondstage.run import Scores

from ..loaded import scores_of_files
from .parts import TOKENIZER, Source, copy_graph, copy_reranker, inputs_of, write_length, write_readme

TEXT = """
A folder in Hugging Face's layout with `onnx/model.onnx` beside the weights. `FOLDER` is this one. Inputs are INPUTS, of
64-bit integers `[batch, length]`; the output `logits` is `[batch, 1]`.

## ONNX Runtime

```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("FOLDER/tokenizer.json")
tokenizer.enable_truncation(MAX_LENGTH)
tokenizer.enable_padding(pad_id=PAD_ID, pad_token=PAD_TOKEN)
session = onnxruntime.InferenceSession("FOLDER/onnx/model.onnx")
rows = tokenizer.encode_batch([("a query", "a document")])
features = {
    "input_ids": np.array([row.ids for row in rows]),
    "attention_mask": np.array([row.attention_mask for row in rows]),
    "token_type_ids": np.array([row.type_ids for row in rows]),
}
names = {port.name for port in session.get_inputs()}
scores = session.run(["logits"], {name: rows for name, rows in features.items() if name in names})[0][:, 0]
print(scores)
```

## Text Embeddings Inference

Its images for x86 processors take `onnx/model.onnx` where there is one:

```bash
docker run -p 8080:80 -v FOLDER:/model ghcr.io/huggingface/text-embeddings-inference:cpu-1.9 \\
  --model-id /model --auto-truncate --max-client-batch-size 100
```

## sentence-transformers

Where optimum is installed beside it (`pip install 'sentence-transformers[onnx]'`):

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("FOLDER", backend="onnx", model_kwargs={"file_name": "onnx/model.onnx"})
```
"""


def write(source: Source, folder: Path) -> None:
    """Write the layout."""
    copy_reranker(source, folder)
    copy_graph(source.graph, folder / "onnx")
    write_length(source, folder)
    write_readme(source, folder, f"{source.name}: ONNX", filled(source, TEXT))


def scores(source: Source, folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores by the graph and the tokenizer, as the README says."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.enable_truncation(source.max_length)
    return scores_of_files(folder / "onnx" / "model.onnx", tokenizer, pairs)


def filled(source: Source, text: str) -> str:
    """The text with what differs between models put in."""
    tokenizer = load_tokenizer(str(source.reranker))
    words = {
        "INPUTS": ", ".join(f"`{name}`" for name in inputs_of(source.graph)),
        "MAX_LENGTH": str(source.max_length),
        "PAD_ID": str(tokenizer.pad_token_id),
        "PAD_TOKEN": repr(tokenizer.pad_token),
    }
    for word, value in words.items():
        text = text.replace(word, value)
    return text
