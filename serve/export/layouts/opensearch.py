"""The archive that OpenSearch registers as a model of text similarity, and the body of the call."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secondstage.files import file_digest, write_json
from secondstage.run import Scores

from ..loaded import scores_of_files
from .parts import TOKENIZER, Source, copy_graph, write_contract, write_readme, write_tokenizer

CALL = "model_config.json"
# The earliest that an archive can say: the same content gives the same digest.
NO_DATE = (1980, 1, 1, 0, 0, 0)
# What OpenSearch gives to every cross-encoder, in this order.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TEXT = """
An archive for OpenSearch (2.12 or later): `NAME.zip` holds `NAME.onnx` and `tokenizer.json`, and `model_config.json` is
the body of the call that registers it, with the archive's SHA-256. The graph is for ONNX Runtime 1.14 or later.

Put the archive where the cluster can fetch it, write its address into `url`, and register it:

```bash
curl -X PUT localhost:9200/_cluster/settings -H 'Content-Type: application/json' -d '{"persistent": {
  "plugins.ml_commons.only_run_on_ml_node": false, "plugins.ml_commons.allow_registering_model_via_url": true}}'
curl -X POST localhost:9200/_plugins/_ml/models/_register -H 'Content-Type: application/json' -d @model_config.json
curl localhost:9200/_plugins/_ml/tasks/TASK_ID               # from the answer; says the model's id when it is done
curl -X POST localhost:9200/_plugins/_ml/models/MODEL_ID/_deploy
```

Or upload it without a web server: `pip install opensearch-py-ml`, then
`MLCommonClient(client).register_model("NAME.zip", "model_config.json")`.

A search pipeline that reranks, and a search through it:

```
PUT _search/pipeline/NAME
{"response_processors": [{"rerank": {
  "ml_opensearch": {"model_id": "MODEL_ID"}, "context": {"document_fields": ["content"]}}}]}

GET my-index/_search?search_pipeline=NAME
{"size": 50, "query": {"match": {"content": "a query"}},
 "ext": {"rerank": {"query_context": {"query_text": "a query"}}}}
```

`size` is how many are reranked, and returned. `content` must hold the title and the text, joined by a line break. A
search goes through one pipeline: if yours has one already, put `rerank` at the end of its `response_processors`.
"""


def write(source: Source, folder: Path) -> None:
    """Write the layout."""
    archive = folder / f"{source.name}.zip"
    with tempfile.TemporaryDirectory() as place:
        inside = Path(place)
        copy_graph(source.graph, inside)
        (inside / "model.onnx").rename(inside / f"{source.name}.onnx")
        _give_all_inputs(inside / f"{source.name}.onnx")
        write_tokenizer(source, inside)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in (f"{source.name}.onnx", TOKENIZER):
                packed.writestr(zipfile.ZipInfo(name, NO_DATE), (inside / name).read_bytes(), zipfile.ZIP_DEFLATED)
    write_json(folder / CALL, _call(source, archive))
    write_contract(source, folder)
    write_readme(source, folder, f"{source.name}: OpenSearch", TEXT.replace("NAME", source.name))


def scores(source: Source, folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores by what the archive holds."""
    from tokenizers import Tokenizer

    with zipfile.ZipFile(folder / f"{source.name}.zip") as packed:
        tokenizer = Tokenizer.from_str(packed.read(TOKENIZER).decode())
        return scores_of_files(packed.read(f"{source.name}.onnx"), tokenizer, pairs)


def _call(source: Source, archive: Path) -> dict[str, Any]:
    """The body of the call that registers a model."""
    return {
        "name": source.name,
        "version": "1.0.0",
        "description": f"a cross-encoder of at most {source.max_length} tokens a pair; its score is the raw logit",
        "function_name": "TEXT_SIMILARITY",
        "model_format": "ONNX",
        "model_content_size_in_bytes": archive.stat().st_size,
        "model_content_hash_value": file_digest(archive),
        "model_config": {
            "model_type": str(source.config.get("model_type", "bert")),
            "embedding_dimension": 1,
            "framework_type": "huggingface_transformers",
        },
        "url": f"https://ADDRESS-OF-THE-ARCHIVE/{archive.name}",
    }


def _give_all_inputs(path: Path) -> None:
    """Let the graph take segment ids where it reads none: OpenSearch gives them to every model, and fails otherwise."""
    import onnx

    model = onnx.load(path)
    missing = [name for name in INPUTS if name not in [port.name for port in model.graph.input]]
    for name in missing:
        port = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "length"])
        model.graph.input.append(port)
    if missing:
        onnx.save(model, path)
