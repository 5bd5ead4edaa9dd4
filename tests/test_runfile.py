"""A run in an Arrow file: what was written is read, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondstage.errors import UserError
from secondstage.run import Run, rank
from secondstage.runfile import read_run, write_run

texts = st.text(st.characters(codec="utf-8"), max_size=5)
documents = st.dictionaries(texts, st.tuples(st.floats(-1e6, 1e6, width=32), texts), max_size=5)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(texts, documents, max_size=5))
def test_every_value_survives(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, dict[str, tuple[float, str]]]
) -> None:
    path = tmp_path_factory.mktemp("runs") / "run.arrow"
    rankings = {
        query_id: rank(list(hits), [score for score, _ in hits.values()], [name for _, name in hits.values()])
        for query_id, hits in found.items()
    }
    write_run(path, Run("bm25", rankings))
    read = read_run(path)
    assert (read.name, list(read)) == ("bm25", list(rankings))
    for query_id, ranking in rankings.items():
        assert read[query_id].doc_ids == ranking.doc_ids
        assert read[query_id].retrievers == ranking.retrievers
        assert read[query_id].scores.dtype == np.float32
        np.testing.assert_array_equal(read[query_id].scores, ranking.scores)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "run.arrow"
    write_run(path, Run("one", {}))
    broken = rank(["d"], [1.0], ["bm25"])._replace(retrievers=(object(),))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="object"):
        write_run(path, Run("two", {"q": broken}))
    assert read_run(path).name == "one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"nothing", b"ARROW1\0\0half"])
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.arrow"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.arrow holds no run that this version can read .*: delete it"):
        read_run(path)
