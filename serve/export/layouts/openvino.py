"""The plain folder with a graph of OpenVINO in it: `openvino/openvino_model.xml`."""

from __future__ import annotations

from pathlib import Path

from .onnx import filled
from .parts import Source, copy_graph, copy_reranker, write_readme

TEXT = """
A folder in Hugging Face's layout with `openvino/openvino_model.xml` and `.bin` beside the weights. `FOLDER` is this
one. Inputs are INPUTS, of 64-bit integers `[batch, length]`; the output `logits` is `[batch, 1]`.

## OpenVINO

```python
import numpy as np
import openvino
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("FOLDER/tokenizer.json")
tokenizer.enable_truncation(MAX_LENGTH)
tokenizer.enable_padding(pad_id=PAD_ID, pad_token=PAD_TOKEN)
model = openvino.compile_model("FOLDER/openvino/openvino_model.xml", "CPU")
rows = tokenizer.encode_batch([("a query", "a document")])
features = {
    "input_ids": np.array([row.ids for row in rows]),
    "attention_mask": np.array([row.attention_mask for row in rows]),
    "token_type_ids": np.array([row.type_ids for row in rows]),
}
names = {port.any_name for port in model.inputs}
scores = model({name: rows for name, rows in features.items() if name in names})["logits"][:, 0]
print(scores)
```

OpenVINO computes in bfloat16 where the processor has it, which moves a logit by a few hundredths;
`openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})` computes in single precision.

## sentence-transformers

Where optimum-intel is installed beside it (`pip install 'sentence-transformers[openvino]'`):

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("FOLDER", backend="openvino", model_kwargs={"file_name": "openvino/openvino_model.xml"})
```
"""


def write(source: Source, folder: Path) -> None:
    """Write the layout."""
    copy_reranker(source, folder)
    copy_graph(source.graph, folder / "openvino")
    write_readme(source, folder, f"{source.name}: OpenVINO", filled(source, TEXT))
