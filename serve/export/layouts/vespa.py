"""A fragment of a Vespa application: graph, tokenizer, and a rank profile whose global phase is the cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secondstage.errors import UserError
from secondstage.networks import load_tokenizer
from secondstage.run import Scores

from ..loaded import scores_of_files
from .parts import (
    TOKENIZER,
    Source,
    check_tokenizer,
    copy_graph,
    inputs_of,
    write_contract,
    write_readme,
    write_tokenizer,
)

# Tokens of a query; Vespa's tensors have a fixed size, filled up with zeros.
QUERY_TOKENS = 32
# What Vespa's own function puts around the two texts.
BERT_MARKS = (101, 102)
SERVICES = """<!-- Into services.xml, inside <container id="default" version="1.0">: -->
<component id="tokenizer" type="hugging-face-tokenizer">
  <model path="models/tokenizer.json"/>
</component>
"""
SCHEMA = """# Fields and a rank profile: take what your schema lacks.
schema reranked {{
    document reranked {{
        field title type string {{
            indexing: summary | index
            index: enable-bm25
        }}
        field text type string {{
            indexing: summary | index
            index: enable-bm25
        }}
    }}

    # Token ids of title and text, with a line break where there are both; zeros fill it up.
    field tokens type tensor<float>(d0[{document_tokens}]) {{
        indexing: ((input title . "\\n" . input text) || input title || input text || "") | embed tokenizer | attribute
    }}

    fieldset default {{
        fields: title, text
    }}

    rank-profile reranked inherits default {{
        inputs {{
            query(q_tokens) tensor<float>(d0[{query_tokens}])
        }}
        onnx-model cross_encoder {{
            file: models/model.onnx
{inputs}
            output logits: logits
        }}
        function input_ids() {{
            expression: {input_ids}({marks}{length}, query(q_tokens), attribute(tokens))
        }}
        function attention_mask() {{
            expression: tokenAttentionMask({length}, query(q_tokens), attribute(tokens))
        }}
{segments}        first-phase {{
            expression: bm25(title) + bm25(text)
        }}
        global-phase {{
            rerank-count: 50
            expression: onnx(cross_encoder).logits{{d0:0,d1:0}}
        }}
    }}
}}
"""
SEGMENTS = """        function token_type_ids() {{
            expression: tokenTypeIds({length}, query(q_tokens), attribute(tokens))
        }}
"""
TEXT = """
A fragment of a Vespa application package:

- `models/model.onnx` and `models/tokenizer.json`: copy them into the application.
- `schemas/reranked.sd`: a schema with the rank profile `reranked`.
- `services.xml`: the component to put into your container.

```bash
cp -r models schemas MY_APPLICATION/   # and the component of services.xml into its own
vespa deploy MY_APPLICATION
vespa query 'yql=select title, text from reranked where userQuery()' 'query=a query' ranking=reranked \\
  'input.query(q_tokens)=embed(tokenizer, "a query")'
```

A document that has no title, or no text, should be fed without that field: an empty one gets a line break that the
bundle's own has not.

`tokenizer.json` adds no special tokens, as Vespa's function puts them around query and document. Scores are those
below for pairs of at most MAX_LENGTH tokens with a query of at most QUERY_TOKENS; Vespa cuts the end of longer ones,
the closing token with it, where the others cut the longer text.
"""


def check(source: Source) -> None:
    """Raise `UserError` if the tokenizer puts more around two texts than Vespa's function can, or has no fast form."""
    check_tokenizer(source)
    _marks(source)


def write(source: Source, folder: Path) -> None:
    """Write the layout."""
    start, separator = _marks(source)
    inputs = inputs_of(source.graph)
    copy_graph(source.graph, folder / "models")
    write_tokenizer(source, folder / "models", special_tokens=False)
    plain = (start, separator) == BERT_MARKS
    schema = SCHEMA.format(
        length=source.max_length,
        query_tokens=QUERY_TOKENS,
        document_tokens=source.max_length,
        input_ids="tokenInputIds" if plain else "customTokenInputIds",
        marks="" if plain else f"{start}, {separator}, ",
        segments=SEGMENTS.format(length=source.max_length) if "token_type_ids" in inputs else "",
        inputs="\n".join(f"            input {name}: {name}" for name in inputs),
    )
    (folder / "schemas").mkdir()
    (folder / "schemas" / "reranked.sd").write_text(schema, encoding="utf-8")
    (folder / "services.xml").write_text(SERVICES, encoding="utf-8")
    write_contract(source, folder)
    text = TEXT.replace("MAX_LENGTH", str(source.max_length)).replace("QUERY_TOKENS", str(QUERY_TOKENS))
    write_readme(source, folder, f"{source.name}: Vespa", text)


def scores(source: Source, folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """`[n]` scores by the graph and the tokenizer, with Vespa's marks; long pairs are cut as the contract says."""
    from tokenizers import Tokenizer
    from tokenizers.processors import BertProcessing

    start, separator = _marks(source)
    tokenizer = Tokenizer.from_file(str(folder / "models" / TOKENIZER))
    tokenizer.post_processor = BertProcessing(("separator", separator), ("start", start))
    tokenizer.enable_truncation(source.max_length)
    return scores_of_files(folder / "models" / "model.onnx", tokenizer, pairs)


def _marks(source: Source) -> tuple[int, int]:
    """The ids of the start and of the separator."""
    tokenizer = load_tokenizer(str(source.reranker))
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b"))
    row = tokenizer("a", "b")["input_ids"]
    start, separator = row[0], row[-1]
    if row != [start, *first, separator, *second, separator]:
        raise UserError(
            "vespa joins query and document as start, query, separator, document, separator, and this tokenizer gives "
            f"{tokenizer.convert_ids_to_tokens(row)}: scores would differ. Serve it with TEI (--to safetensors)"
        )
    return start, separator
