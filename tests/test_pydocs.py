"""The built-in collection: what is harvested, how it is split, and that the human questions are what they claim."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from secondstage.collection import Document, Qrel
from secondstage.errors import Faults
from secondstage.pydocs import PydocsSource
from secondstage.pydocs.harvest import Harvest, harvest
from secondstage.pydocs.libraries import LIBRARIES, Library
from secondstage.pydocs.questions import PATH, Question, read_questions
from secondstage.pydocs.split import (
    DEV_QUERIES,
    MAX_POSITIVES,
    TEST_QUERIES,
    Asked,
    assign,
    deduplicate,
    group,
    make_queries,
    near_copies,
    sketch,
)
from secondstage.pydocs.text import Record, first_sentence, make_record, normalise, take_apart, without
from secondstage.pydocs.walk import render_signature

BODY = "The rest of the text says in some more words what happens to the values that are handed in, and why."


def record(name: str, summary: str = "Do one thing well.", body: str = BODY) -> Record:
    return Record(name, "fake", summary, f"{name}()", body)


# --- from a docstring to a query and a text


@pytest.mark.parametrize(
    ("doc", "summary", "signatures", "text"),
    [
        ("Add two numbers.\n\nMore.", "Add two numbers.", "", "More."),
        ("\n    Spread over\n    two lines.\n\n    More.\n    ", "Spread over two lines.", "", "More."),
        (
            "add(x1, x2, /, out=None)\n\nAdd arguments element-wise.\n\nMore.",
            "Add arguments element-wise.",
            "add(x1, x2, /, out=None)",
            "More.",
        ),
        (
            "range(stop) -> range object\nrange(start, stop[, step]) -> range object\n\nReturn numbers.\nMore",
            "Return numbers.",
            "range(stop) -> range object\nrange(start, stop[, step]) -> range object",
            "More",
        ),
        ("D.update([E, ]**F) -> None.  Update D from E.", "Update D from E.", "D.update([E, ]**F) -> None", ""),
        ("linalg.inv(A,\n    out=None) -> Tensor\n\nInvert it.", "Invert it.", "linalg.inv(A, out=None) -> Tensor", ""),
        ("One sentence here. Another one.\n\nMore.", "One sentence here.", "", "Another one.\n\nMore."),
        ("Choose, e.g. Adam, a method.\n\nMore.", "Choose, e.g. Adam, a method.", "", "More."),
        ("A summary\n=========\nMore.", "A summary", "", "More."),
        ("Find the roots:\n- one\n- two", "Find the roots:", "", "- one\n- two"),
        ("Return :func:`~a.b.c` of ``x`` and `y`.", "Return a.b.c of x and y.", "", ""),
        ("Call <object at 0x7f00dead> now.", "Call <object> now.", "", ""),
        ("(a) is no signature but a summary", "(a) is no signature but a summary", "", ""),
        ("f(x) is the density of x.", "f(x) is the density of x.", "", ""),
        ("Draw samples.\n\n>>> draw()\n3.1415  # may vary\n>>> 1\n1", "Draw samples.", "", ">>> draw()\n>>> 1\n1"),
    ],
)
def test_a_docstring_is_taken_apart(doc: str, summary: str, signatures: str, text: str) -> None:
    assert take_apart(doc) == (summary, signatures, text)


def test_a_sentence_ends_at_a_full_stop_before_a_capital() -> None:
    assert first_sentence("It costs 3.5 units. Then it ends! Or not?") == (
        "It costs 3.5 units.",
        "Then it ends! Or not?",
    )


def test_the_summary_is_cut_out_whatever_its_case_and_line_breaks() -> None:
    assert without("Before. return\n  the SUM, after. Return the sums.", "Return the sum") == (
        "Before. , after. Return the sums."
    )


@pytest.mark.parametrize(
    ("name", "doc"),
    [
        ("a.b", "Alias for field number 0"),
        ("a.b", "Two words.\n\n" + BODY),
        ("a.b", "Do one thing well.\n\nToo short."),
        ("a.b", "This function is deprecated since 1.0.\n\n" + BODY),
        ("a.b", "Do one thing well.\n\n.. deprecated:: 1.0\n" + BODY),
        ("a.b", "See also the other one.\n\n" + BODY),
        ("a.b", "Сделать одно дело хорошо.\n\n" + "Остальной текст говорит об этом больше слов. " * 9),
        ("a.set_fit_request", "Do one thing well.\n\n" + BODY),
        ("a. b", "Do one thing well.\n\n" + BODY),
    ],
)
def test_noise_makes_no_record(name: str, doc: str) -> None:
    assert make_record("a.b", "fake", "", "Do one thing well.\n\n" + BODY) is not None
    assert make_record(name, "fake", "", doc) is None


def test_a_signature_shows_simple_defaults_only() -> None:
    def function(
        self: object, a: int, b: float = 0.5, *, c: object = ..., d: str = "x", e: str = "/home/me", **f: int
    ) -> None:
        pass

    assert render_signature(function) == "(a, b=0.5, *, c=..., d='x', e=..., **f)"
    assert render_signature(len) == "(obj, /)"
    assert render_signature(type) == ""


# --- the harvest


GOOD = f'''
"""A module about good things.

{BODY}
"""
import functools
import os
import sys
import warnings

class Base:
    """A base that is public.

    {BODY}
    """

    def method(self, where=os.getcwd(), other=object()):
        """Do what a method does.

        It holds {{}} at 0x7f0000000000 and says in some more words what happens to what is handed in.
        """

    @property
    def size(self):
        """Tell how large it is.

        This counts everything that was ever put in and was not taken out again since then.
        """

class Derived(Base):
    """A child that is public, too.

    This one adds nothing, but it says in many words that it could add something.
    """

    def method(self):
        pass

    method.__doc__ = Base.method.__doc__

def long_function_name(x):
    """Compute the one result.

    {BODY} And this is another one.
    """

short = long_function_name
short.__doc__ += " ".join({{"one", "two", "three", "four", "five", "six", "seven"}})
part = functools.partial(short, 1)

def _private():
    """Stay out of sight.

    {BODY} And nobody should see this.
    """

open("litter", "w").close()
print("noise")
print("noise", file=sys.stderr)
warnings.warn("noise")
'''


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A library with a good module and several that misbehave at import."""
    package = tmp_path / "fakelib"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "good.py").write_text(GOOD)
    (package / "raises.py").write_text("raise RuntimeError('broken')")
    (package / "leaves.py").write_text("import sys; sys.exit(3)")
    (package / "stops.py").write_text("raise KeyboardInterrupt")
    (package / "wanders.py").write_text(
        "import os; os.chdir('/'); os.environ.clear(); input_ = __import__('sys').stdin.read()"
    )
    (package / "lists.py").write_text(
        "__all__ = 3\nclass Odd(type):\n    @property\n    def __doc__(cls):\n        raise ValueError"
    )
    (package / "dies.py").write_text("import os; os._exit(0)")
    (package / "hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ("good", "raises", "leaves", "stops", "wanders", "lists", "missing")
    return Library("fakelib", "", tuple(f"fakelib.{name}" for name in names))


def test_a_harvest_survives_what_modules_do_and_says_what_it_left_out(fakes: Library) -> None:
    found = harvest([fakes])
    assert found.left_out == [
        "fakelib.raises (RuntimeError)",
        "fakelib.leaves (SystemExit)",
        "fakelib.stops (KeyboardInterrupt)",
        "fakelib.missing (ModuleNotFoundError)",
    ]
    assert [record.name for record in found.records] == [
        "fakelib.good",
        "fakelib.good.Base",
        "fakelib.good.Base.method",
        "fakelib.good.Base.size",
        "fakelib.good.Derived",
        "fakelib.good.short",
    ]


def test_a_harvest_shows_nothing_of_the_machine(fakes: Library) -> None:
    method = next(record for record in harvest([fakes]).records if record.name.endswith("Base.method"))
    assert method.summary == "Do what a method does."
    assert method.signature == "method(where=..., other=...)"
    assert method.body.startswith("It holds {} and says")


def test_a_library_that_kills_its_process_or_hangs_costs_only_itself(fakes: Library) -> None:
    good = fakes._replace(modules=("fakelib.good",))
    dead = Library("dead", "", ("fakelib.good", "fakelib.dies"))
    late = Library("late", "", ("fakelib.good", "fakelib.hangs"))
    found = harvest([dead, good, late], timeout=4)
    assert {record.library for record in found.records} == {"fakelib"}
    assert [line.split(":")[0] for line in found.left_out] == ["dead", "late"]
    assert "none within 4 s" in found.left_out[1]


def test_a_harvest_leaves_its_caller_alone(
    fakes: Library, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    assert harvest([fakes]).records
    assert capfd.readouterr() == ("", "")
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.rglob("litter"))
    assert not [name for name in set(sys.modules) - before if name.startswith("fakelib")]


def test_a_harvest_depends_neither_on_folders_nor_on_hash_seeds(
    fakes: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = harvest([fakes])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for key, value in {"HOME": str(tmp_path), "PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "2", "TZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(key, value)
    assert harvest([fakes]) == first


# --- deduplication, queries, groups, splits


def test_copies_go_to_the_shortest_name_then_to_the_first() -> None:
    records = [record("b.long_name"), record("b.name"), record("a.name"), record("c.other", body=BODY + " Other.")]
    assert [kept.name for kept in deduplicate(records)] == ["a.name", "c.other"]
    assert deduplicate(reversed(records)) == deduplicate(records)


def test_one_name_makes_one_record() -> None:
    records = [record("a.name"), record("a.name", body=BODY + " Other.")]
    assert len(deduplicate(records)) == 1


def test_a_shared_summary_is_one_query_unless_too_many_share_it() -> None:
    shared = [record(f"a.f{i}", body=f"{BODY} {i}") for i in range(MAX_POSITIVES)]
    alone = record("a.alone", "Do another thing.")
    expected = Asked("q-a.f0", "Do one thing well.", tuple(f"a.f{i}" for i in range(MAX_POSITIVES)))
    assert make_queries([*shared, alone]) == [Asked("q-a.alone", "Do another thing.", ("a.alone",)), expected]
    crowd = [*shared, record("a.more", "do ONE thing, well")]
    assert [query.query_id for query in make_queries([*crowd, alone])] == ["q-a.alone"]


WORDS = ["alpha", "bravo", "cedar", "delta", "eagle", "flame", "grape", "hotel", "igloo", "joker", "koala", "lemon"]


def family(name: str, generator: random.Random) -> list[Record]:
    """Three near copies: another width, a renamed one, and one with a sentence more."""
    words = [generator.choice(WORDS) + generator.choice(WORDS) for _ in range(80)]
    body = " ".join(words)
    head = " ".join(words[:6])
    return [
        record(f"lib.{name}1", f"Apply {name}1 to {head}", f"{name}1 {body} 1d"),
        record(f"lib.{name}2", f"Apply {name}2 to {head}", f"{name}2 {body} 2d"),
        record(f"lib.{name}x", f"Something different about {name}", f"{body} and finally one more word"),
    ]


def test_near_copies_share_a_group_and_others_do_not() -> None:
    generator = random.Random(5)
    families = {name: family(name, generator) for name in ("conv", "pool", "norm")}
    records = [member for members in families.values() for member in members]
    groups = group(records)
    assert [{groups[member.name] for member in members} for members in families.values()] == [
        {"lib.conv1"},
        {"lib.pool1"},
        {"lib.norm1"},
    ]
    generator.shuffle(records)
    assert group(records) == groups


def test_equal_summaries_or_bodies_share_a_group_but_for_names_and_digits() -> None:
    records = [
        record("a.relu6", "Apply relu6 to 1 input.", "It says this and that."),
        record("a.elu8", "Apply elu8 to 2 input.", "Another text, quite unlike it."),
        record("a.first", "Something else again.", "The first of 3 is 3d and short."),
        record("a.other", "And this is different.", "The other of 4 is 4d and short."),
    ]
    groups = group(records)
    assert groups == {"a.relu6": "a.elu8", "a.elu8": "a.elu8", "a.first": "a.first", "a.other": "a.first"}


def test_near_copies_are_found_by_their_shingles() -> None:
    generator = random.Random(3)
    text = [generator.choice(WORDS) + generator.choice(WORDS) for _ in range(200)]
    other = [generator.choice(WORDS) + generator.choice(WORDS) for _ in range(200)]
    changed = [*text[:100], "inserted", *text[100:]]
    sketches = {"a": sketch(" ".join(text)), "b": sketch(" ".join(changed)), "c": sketch(" ".join(other))}
    assert near_copies(sketches) == [("a", "b")]


def test_groups_never_straddle_and_the_cut_ignores_the_order() -> None:
    generator = random.Random(1)
    records = [
        member for i in range(600) for member in family(f"f{''.join(WORDS[int(d)][:2] for d in str(i))}", generator)
    ]
    queries, groups = make_queries(records), group(records)
    splits = assign(queries, groups)
    assert (len(splits["test"]), len(splits["dev"])) == (TEST_QUERIES - TEST_QUERIES % 3, DEV_QUERIES)
    assert sum(map(len, splits.values())) == len(queries)
    seen = [{groups[query.doc_ids[0]] for query in members} for members in splits.values()]
    assert sum(map(len, seen)) == len(set().union(*seen))
    generator.shuffle(queries)
    assert assign(queries, groups) == splits


def test_a_large_family_is_for_training() -> None:
    records = [record(f"a.f{i}", f"Do thing {chr(97 + i) * 5} well.", f"{BODY} {i}") for i in range(9)]
    splits = assign(make_queries(records), group(records))
    assert {split: len(members) for split, members in splits.items()} == {"train": 9, "dev": 0, "test": 0}


# --- the source


def write_questions(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["query_id\tquestion\tanswers\thard", *lines]) + "\n", encoding="utf-8")
    return path


def test_malformed_questions_are_faults(tmp_path: Path) -> None:
    lines = ("h1\tfine?\ta.b:2 c:1\t0", "h2\ttoo few", "h3\tgrade\ta:3\t0", "h4\tflag\ta:1\tx", "h5\tnumber\ta:b\t0")
    faults = Faults("questions")
    questions = list(read_questions(write_questions(tmp_path / "q.tsv", *lines), faults))
    assert questions == [Question("h1", "fine?", {"a.b": 2, "c": 1}, hard=False)]
    assert [re.search(r"line \d", message)[0] for message in faults.messages] == [f"line {i}" for i in (3, 4, 5, 6)]  # type: ignore[index]


def test_what_is_not_there_is_left_out_and_said(fakes: Library, tmp_path: Path) -> None:
    questions = write_questions(tmp_path / "q.tsv", "h1\thow large\tfakelib.good.Base.size:2 fakelib.gone:1\t1")
    source = PydocsSource([fakes, Library("nowhere", "no-such-distribution", ("nowhere",))], questions)
    faults = Faults("pydocs")
    documents = {document.doc_id: document for document in source.documents(faults)}
    queries = {query.query_id: query.text for query in source.queries(faults)}
    qrels = source.qrels(faults)
    assert documents["fakelib.good.Base.size"] == Document(
        "fakelib.good.Base.size",
        "fakelib.good.Base.size",
        "This counts everything that was ever put in and was not taken out again since then.",
    )
    assert queries["q-fakelib.good.Base.size"] == "Tell how large it is."
    assert queries["h1"] == "how large"
    assert qrels["human"] == [Qrel("h1", "fakelib.good.Base.size", 2)]
    assert set(qrels) == {"train", "dev", "test", "human"}
    notes = "\n".join(source.notes())
    assert "not installed, so left out: nowhere" in notes
    assert "could not be imported, so left out: fakelib.raises (RuntimeError)" in notes
    assert "1 answers of human questions are not documented here: fakelib.gone" in notes
    assert faults.count == 0


def test_the_fingerprint_imports_no_library_and_changes_with_the_questions(tmp_path: Path) -> None:
    program = (
        "import sys; from secondstage.pydocs import PydocsSource; print(PydocsSource().fingerprint()); "
        f"print(sorted(set(sys.modules) & set({[library.name for library in LIBRARIES]!r})))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [PydocsSource().fingerprint(), "[]"]
    other = PydocsSource(questions=write_questions(tmp_path / "q.tsv")).fingerprint()
    fewer = PydocsSource(LIBRARIES[1:]).fingerprint()
    assert len({output.splitlines()[0], other, fewer}) == 3


# --- the whole collection


class Whole(NamedTuple):
    source: PydocsSource
    found: Harvest
    documents: dict[str, Document]
    queries: dict[str, str]
    qrels: dict[str, list[Qrel]]
    output: tuple[str, str]
    imported: set[str]


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest) -> Whole:
    """One harvest of everything that is installed, shared by all tests below."""
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    capture.read_global_capture()
    before = set(sys.modules)
    source, faults = PydocsSource(), Faults("pydocs")
    found = Harvest(source._made.records, source._made.left_out)
    documents = {document.doc_id: document for document in source.documents(faults)}
    queries = {query.query_id: query.text for query in source.queries(faults)}
    qrels = source.qrels(faults)
    assert faults.count == 0
    return Whole(source, found, documents, queries, qrels, capture.read_global_capture(), set(sys.modules) - before)


slow = pytest.mark.slow


@slow
def test_it_is_large_enough_and_split_as_promised(whole: Whole) -> None:
    assert 8_000 <= len(whole.documents) <= 15_000
    sizes = {split: len({qrel.query_id for qrel in qrels}) for split, qrels in whole.qrels.items()}
    assert (sizes["dev"], sizes["test"]) == (DEV_QUERIES, TEST_QUERIES)
    assert sizes["train"] > 8_000
    assert whole.found.left_out == []
    assert not any(re.search(r"\s", doc_id) for doc_id in whole.documents)


@slow
def test_no_document_holds_its_summary(whole: Whole) -> None:
    records = {record.name: record for record in whole.found.records}
    holders = [
        qrel
        for split in ("train", "dev", "test")
        for qrel in whole.qrels[split]
        for part in (records[qrel.doc_id].signature, records[qrel.doc_id].body)
        if f" {normalise(whole.queries[qrel.query_id])} " in f" {normalise(part)} "
    ]
    assert holders == []


@slow
def test_no_docstring_is_there_twice_and_none_shows_the_machine(whole: Whole) -> None:
    contents = Counter(normalise(f"{record.summary} {record.body}") for record in whole.found.records)
    assert [text for text, count in contents.items() if count > 1] == []
    shown = re.compile(
        rf"<[^>]+ at 0x[0-9a-f]+|{re.escape(str(Path.home()))}/\w+/site-packages|{re.escape(sys.prefix)}"
    )
    assert [name for name, document in whole.documents.items() if shown.search(document.text)] == []


@slow
def test_splits_share_no_query_document_or_body(whole: Whole) -> None:
    bodies = {record.name: re.sub(r"\d", "0", normalise(record.body)) for record in whole.found.records}
    sides = [whole.qrels[split] for split in ("train", "dev", "test")]
    for shared in (
        [{qrel.query_id for qrel in side} for side in sides],
        [{qrel.doc_id for qrel in side} for side in sides],
        [{bodies[qrel.doc_id] for qrel in side} for side in sides],
        [{re.sub(r"\d", "0", normalise(whole.queries[qrel.query_id])) for qrel in side} for side in sides],
    ):
        assert sum(map(len, shared)) == len(set().union(*shared))


@slow
def test_the_caller_of_the_whole_harvest_notices_nothing(whole: Whole) -> None:
    assert whole.output == ("", "")
    tops = {library.name for library in LIBRARIES}
    assert not {name for name in whole.imported if name.split(".")[0] in tops}


@slow
def test_two_harvests_are_equal(whole: Whole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert deduplicate(harvest(LIBRARIES).records) == whole.found.records


# --- the human questions


def questions() -> list[Question]:
    faults = Faults("questions")
    read = list(read_questions(PATH, faults))
    faults.raise_if_any()
    return read


def test_the_questions_are_many_distinct_and_answered() -> None:
    read = questions()
    assert len(read) >= 160
    assert len({question.query_id for question in read}) == len(read)
    assert len({normalise(question.text) for question in read}) == len(read)
    assert all(2 in question.answers.values() for question in read)
    assert sum(question.hard for question in read) >= 40


@slow
def test_the_answers_are_in_the_collection(whole: Whole) -> None:
    """With the pinned versions; other versions of Python lack a few docstrings, but no question its answer."""
    answers = {doc_id for question in questions() for doc_id in question.answers}
    missing = answers - set(whole.documents)
    assert len(missing) <= (0 if sys.version_info[:2] == (3, 11) else 10), missing
    answered = {qrel.query_id for qrel in whole.qrels["human"] if qrel.relevance == 2}
    assert answered == {question.query_id for question in questions()}


@slow
def test_the_questions_span_the_libraries_and_repeat_no_summary(whole: Whole) -> None:
    library = {record.name: record.library for record in whole.found.records}
    asked = {
        question.query_id: {library[id_] for id_ in question.answers if id_ in library} for question in questions()
    }
    counts = Counter(name for names in asked.values() for name in names)
    assert counts["stdlib"] >= 40
    assert len([name for name, count in counts.items() if count >= 5]) >= 8
    summaries = {normalise(record.summary) for record in whole.found.records}
    assert [question.text for question in questions() if normalise(question.text) in summaries] == []


STOP_WORDS = """
    a about after all already also an and any are as at be because been before being between both but by can cannot
    could did do does doing done down during each few for from get gets getting give given gives go going got had
    has have having he her here his how i if in into is isn it its itself just let like make makes many may me might
    more most much must my need needs no nor not of off on once one ones only or other our out over own per please s
    same should so some such t than that the their them then there these they this those through to too under until
    up upon us use used uses using very via want was way we were what when where which while who whose why will with
    within without would you your
"""


def content_words(text: str) -> set[str]:
    import Stemmer

    words = [
        word
        for word in normalise(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)).split()
        if word not in STOP_WORDS.split()
    ]
    return {*words, *Stemmer.Stemmer("english").stemWords(words)}


def test_content_words_are_stemmed_and_names_are_split() -> None:
    assert content_words("How do the DataFrames drop_duplicates?") >= {"data", "frame", "drop", "duplic"}
    assert not content_words("how do I get this to be")


@slow
def test_hard_questions_share_no_content_word_with_their_answers(whole: Whole) -> None:
    shared = {
        (question.text, doc_id): content_words(question.text)
        & content_words(f"{doc_id} {whole.documents[doc_id].text}")
        for question in questions()
        if question.hard
        for doc_id, grade in question.answers.items()
        if grade == 2 and doc_id in whole.documents
    }
    assert {key: words for key, words in shared.items() if words} == {}
