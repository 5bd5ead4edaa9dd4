"""The folder that Qdrant's fastembed opens as a reranker of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secondstage.run import Scores

from ..loaded import scores_of_files
from .parts import TOKENIZER, Source, copy_files, copy_graph, write_contract, write_readme, write_tokenizer

TEXT = """
A folder for fastembed, the library that Qdrant's users rerank with. `FOLDER` is this one; nothing is downloaded.

```python
from fastembed.common.model_description import ModelSource
from fastembed.rerank.cross_encoder import TextCrossEncoder

# fastembed asks for a source, and takes the folder instead.
TextCrossEncoder.add_custom_model("NAME", sources=ModelSource(hf="NAME"), model_file="onnx/model.onnx")
model = TextCrossEncoder("NAME", specific_model_path="FOLDER")
scores = list(model.rerank("a query", ["a document"]))
print(scores)
```

Give it documents as title and text, joined by a line break, and order the points that Qdrant found by these scores.
"""


def write(source: Source, folder: Path) -> None:
    """Write the layout."""
    copy_files(source, folder, "config.json", "tokenizer_config.json", "special_tokens_map.json")
    write_tokenizer(source, folder)
    copy_graph(source.graph, folder / "onnx")
    write_contract(source, folder)
    write_readme(source, folder, f"{source.name}: Qdrant", TEXT.replace("NAME", source.name))


def scores(source: Source, folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores by the graph and the tokenizer."""
    from tokenizers import Tokenizer

    return scores_of_files(folder / "onnx" / "model.onnx", Tokenizer.from_file(str(folder / TOKENIZER)), pairs)
