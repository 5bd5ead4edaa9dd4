"""The report: complete, sound HTML that asks nothing of the network and survives what is missing or hostile."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from secondstage.serve.proof.report import (
    bounds,
    by_measure,
    columns,
    duration,
    interval,
    milliseconds,
    p_value,
    render_report,
)

VOID = ("meta", "br", "hr", "img", "input", "link")
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=y>\"'&{{ 7*7 }} \u202eלום " + "w" * 300
NBSP = "\N{NO-BREAK SPACE}"
# Where a number is a point of a plot, or says how many of something there are, and not a figure of its own.
PLOTTED = ("differences", "histogram", "risk_coverage", "max_length")


class Page(HTMLParser):
    """Tags, attributes and visible text of a page; fails on tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.headings: list[str] = []
        self.stack: list[str] = []
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.pieces.append(data)
        if self.stack and self.stack[-1] in ("h1", "h2", "h3", "h4"):
            self.headings.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).replace(NBSP, " ").split())


def case() -> dict[str, Any]:
    def document(i: int, relevance: int | None, rank: int | None) -> dict[str, Any]:
        place = {"first_stage_rank": rank, "pipeline_rank": rank, "first_stage_score": 11.37, "reranker_score": -2.83}
        return {
            "doc_id": f"d{i}",
            "title": f"Title {i}",
            "text": f"See https://example.org/{i}",
            "relevance": relevance,
        } | place

    found = {"query_id": "q9", "query": "how to copy", "first_stage": 0.931, "pipeline": 0.307, "delta": -0.624}
    before, after = [document(1, 2, 1), document(2, 0, 2)], [document(3, None, 3)]
    return found | {"cause": "truncated", "before": before, "after": after, "relevant": [document(1, 2, None)]}


def curve() -> dict[str, Any]:
    return {
        "queries": 387,
        "depths": [5, 10, 70],
        "pipeline": [0.4812, 0.4923, 0.5034],
        "reranked": [0.4753, 0.4864, 0.4875],
        "oracle": [0.5336, 0.6037, 0.6638],
        "recall": [0.5539, 0.6441, 0.7342],
        "first_stage": 0.4543,
        "p50_ms": [9.13, 15.2, 61.4],
        "p95_ms": [14.3, 22.1, 93.2],
        "best": 70,
        "knee": 10,
        "recommended": 70,
        "decay": {"from": 10, "to": 70, "delta": -0.0094, "low": -0.0173, "high": -0.0011},
    }


def row(delta: float, **others: Any) -> dict[str, Any]:
    found = {"queries": 401, "delta": delta, "low": delta - 0.0213, "high": delta + 0.0228}
    return {"first_stage": 0.4671, "pipeline": 0.4671 + delta} | found | others


def comparison(system: str, delta: float, **others: Any) -> dict[str, Any]:
    names = {"system": system, "baseline": "first_stage", "measure": "nDCG@10"}
    figures = {
        "p": 0.0137,
        "p_holm": 0.0274,
        "wins": 152,
        "ties": 179,
        "losses": 81,
        "sd": 0.2284,
        "detectable": 0.0316,
    }
    rest = {"queries": 412, "delta": delta, "low": delta - 0.0222, "high": delta + 0.0231, "gap_closed": 0.3315}
    return names | rest | figures | others


def whole_set() -> dict[str, Any]:
    def system(value: float, queries: int = 412) -> dict[str, Any]:
        return {"queries": queries, "measures": {"RR@10": value + 0.0317, "nDCG@10": value, "R@70": 0.8123}}

    return {
        "split": "test",
        "origin": "human",
        "queries": 412,
        "notes": ["3 queries without a relevant document are left out"],
        "systems": {"first_stage": system(0.4712), "mine": system(0.5627, 150), "pipeline": system(0.5413)},
        "ceiling": {"recall": 0.8123, "oracle": 0.7129},
        "comparisons": [comparison("pipeline", 0.0701), comparison("mine", 0.0883, queries=150, p=0.0002)],
        "slices": [row(0.0312, slice="query length", value="1 to 3 words"), row(0.0423, slice="words", value="rare")],
        "leakage": {
            "against": ["train", "dev"],
            "counts": {"same_text": 21, "near_duplicate": 16, "document": 31, "any": 36},
            "free": row(0.0672),
            "examples": [
                {
                    "query_id": "q1",
                    "query": "a b",
                    "kind": "same_text",
                    "split": "dev",
                    "other_id": "t1",
                    "other": "A b",
                }
            ],
        },
        "differences": [0.5, 0.25, 0.0, -0.25],
        "depth": curve(),
        "calibration": {
            "method": "platt",
            "fitted_on": "dev",
            "ece": 0.0124,
            "ece_raw": 0.1873,
            "ece_top": 0.0411,
            "bins": [{"probability": 0.0317, "relevant": 0.0213, "count": 31877}],
            "histogram": {"edges": [-1.0, 0.0, 1.0], "relevant": [1, 9], "other": [80, 20]},
        },
        "answerability": {
            "auroc": 0.8421,
            "threshold": 0.3182,
            "kept_answerable": 0.9513,
            "refused_unanswerable": 0.5274,
            "risk_coverage": [[0.5, 0.1], [1.0, 0.3]],
        },
        "diagnosis": {
            "cutoff": 10,
            "queries": 412,
            "failed": 97,
            "counts": {"first_stage_miss": 41, "truncated": 9, "unjudged": 28, "reranker_error": 19},
        },
        "worst": [case()],
    }


@pytest.fixture
def metrics() -> dict[str, Any]:
    small = {key: value for key, value in whole_set().items() if key in ("systems", "queries", "comparisons", "split")}
    return {
        "collection": "Python documentation",
        "seed": 13,
        "confidence": 0.95,
        "resamples": 10000,
        "measure": "nDCG@10",
        "depth": 70,
        "candidates": 90,
        "weight": 0.85,
        "max_length": 256,
        "verdict": {
            "passed": True,
            "sentence": "Ship: it is better.",
            "checks": [
                {"name": "gain", "passed": True, "text": "the lower bound is above 0"},
                {"name": "latency", "passed": False, "text": "93 ms, beyond 50 ms"},
            ],
        },
        "test_sets": {"test": whole_set(), "other": small},
        "development": {
            "depth": curve(),
            "fusion": {"weight": 0.85, "chosen_on": "dev", "curve": {"0.00": 0.4637, "0.85": 0.5351, "1.00": 0.5122}},
        },
        "latency": {"queries": 203, "first_stage_p50_ms": 3.42, "p50_ms": 61.4, "p95_ms": 93.2},
        "exports": {
            "onnx int8": {"order": "pipeline", "queries": 198, "delta": -0.0061, "low": -0.0102, "high": -0.0019}
        },
        "replicates": {
            "count": 5,
            "mean": 0.5374,
            "sd": 0.0042,
            "min": 0.5318,
            "max": 0.5426,
            "gains": [0.0658, 0.0714],
        },
        "seconds": {"mine": 241.9, "train": 5422.0},
    }


def figures(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number of the metrics, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from figures(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from figures(inner, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


def spellings(value: float) -> list[str]:
    """How a reader may find a number: rounded, as a difference, in percent, in milliseconds, as a duration."""
    text = [f"{value:{form}}" for form in (".2f", ".3f", "+.3f", "+.4f")] + [f"{100 * value:.0f} %"]
    text += [f"{value:.1f} ms", f"{value:.0f} ms", f"{value // 60:.0f} min", f"{value // 3600:.0f} h"]
    return [t.replace("-", "−") for t in text] + ([f"{value:,}", f"{value}"] if isinstance(value, int) else [])


def hostile(value: Any, key: str = "") -> Any:
    """The same metrics with every free text replaced; what names a system, measure or kind stays."""
    if isinstance(value, dict):
        named = key in ("test_sets", "exports", "seconds")
        return {HOSTILE + k if named else k: hostile(inner, k) for k, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner, key) for inner in value]
    return HOSTILE if isinstance(value, str) and key not in ("system", "baseline", "measure", "slice") else value


class TestPage:
    def test_is_balanced_with_headings_in_order_and_links_that_lead_somewhere(self, metrics: dict[str, Any]) -> None:
        page = Page(render_report(metrics))
        levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        ids = [value for _, name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert {value for _, name, value in page.attributes if name == "href"} <= {f"#{i}" for i in ids}

    def test_asks_nothing_of_the_network_and_runs_no_script(self, metrics: dict[str, Any]) -> None:
        html = render_report(metrics)
        page = Page(html)
        assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
        assert not [
            name for _, name, _ in page.attributes if name in ("src", "srcset", "action") or name.startswith("on")
        ]
        assert not re.search(r"url\(|@import|@font-face", html)
        assert "default-src 'none'" in html
        assert "https://example.org/1" in page.text  # texts may hold addresses

    def test_holds_every_figure(self, metrics: dict[str, Any]) -> None:
        text = Page(render_report(metrics)).text
        missing = []
        for path, value in figures(metrics):
            patterns = (rf"(?<![\d.,]){re.escape(spelling)}(?![\d%])" for spelling in spellings(value))
            if not set(path) & set(PLOTTED) and not any(re.search(pattern, text) for pattern in patterns):
                missing.append((path, value))
        assert missing == []

    def test_shows_no_python(self, metrics: dict[str, Any]) -> None:
        assert not re.search(r"\b(None|nan|inf|undefined|True|False)\b|[{}]", Page(render_report(metrics)).text)

    def test_is_a_pure_function(self, metrics: dict[str, Any]) -> None:
        before = copy.deepcopy(metrics)
        assert render_report(metrics) == render_report(json.loads(json.dumps(metrics)))
        assert metrics == before

    def test_every_chart_and_scrolling_table_has_a_name(self, metrics: dict[str, Any]) -> None:
        html = render_report(metrics)
        charts = re.findall(r"<svg\b[^>]*>(.{7})", html)
        assert len(charts) > 15
        assert set(charts) == {"<title>"}
        assert html.count("<table") == html.count('role="region"') == html.count("aria-label=") - 1  # the nav


class TestHostileTexts:
    def test_change_no_tag(self, metrics: dict[str, Any]) -> None:
        attacked = Page(render_report(hostile(metrics)))
        # The names of causes, methods and kinds are looked up: with these left alone the pages differ in texts only.
        assert attacked.tags == Page(render_report(metrics)).tags
        assert not [name for _, name, _ in attacked.attributes if name.startswith("on")]

    def test_are_shown_as_they_are(self, metrics: dict[str, Any]) -> None:
        attacked = Page(render_report(hostile(metrics)))
        free_texts = json.dumps(hostile(metrics), ensure_ascii=False).count("alert")
        assert "{{ 7*7 }}" in attacked.text
        assert attacked.text.count("<script>alert('x')</script>") > 0.7 * free_texts


class TestVerdict:
    @pytest.mark.parametrize(("passed", "word"), [(True, "✓ Passed"), (False, "✗ Refused")])
    def test_is_a_word_and_a_sentence(self, metrics: dict[str, Any], passed: bool, word: str) -> None:
        metrics["verdict"]["passed"] = passed
        page = Page(render_report(metrics))
        assert page.headings[0] == "Ship: it is better."
        assert [mark for mark in ("✓ Passed", "✗ Refused") if mark in page.text] == [word]
        assert re.search(r"✓ passed\s+Gain\s*\. the lower bound", page.text)
        assert re.search(r"✗ failed\s+Latency\s*\. 93 ms", page.text)


class TestSystems:
    def test_stand_in_falling_order_with_words(self, metrics: dict[str, Any]) -> None:
        html = render_report(metrics)
        table = html[html.index("<h3>Systems") : html.index("<h3>Differences")]
        names = [m.strip() for m in re.findall(r'<th scope="row">\s*([^<]+)', table)]
        assert names == ["mine", "Pipeline", "First stage"]
        heads = re.findall(r'<th scope="col">([^<]+)', table)
        assert heads == ["System", "nDCG@10", "RR@10", "R@70", "Queries"]

    def test_without_the_measure_stand_last(self) -> None:
        systems: dict[str, Any] = {
            "a": {"measures": {}},
            "b": {"measures": {"x": 0.1}},
            "c": {"measures": {"x": 0.2, "y": 1}},
        }
        assert [name for name, _ in by_measure(systems, "x")] == ["c", "b", "a"]
        assert columns(systems, "y") == ["y", "x"]

    def test_references_and_single_queries_do_not_stretch_the_scale(self) -> None:
        rows = [comparison("pipeline", 0.05), comparison("random", -0.9), row(0.8, low=None, high=None)]
        assert bounds(rows) == bounds(rows[:1])
        assert bounds(rows[2:])[1] >= 0.8


PARTS: dict[str, Callable[[dict[str, Any]], tuple[dict[str, Any], str]]] = {
    "Key figures": lambda m: (m, "test_sets"),
    "Systems": lambda m: (m["test_sets"]["test"], "systems"),
    "Differences": lambda m: (m["test_sets"]["test"], "comparisons"),
    "Leakage": lambda m: (m["test_sets"]["test"], "leakage"),
    "Slices": lambda m: (m["test_sets"]["test"], "slices"),
    "Query by query": lambda m: (m["test_sets"]["test"], "differences"),
    "Depth": lambda m: (m["test_sets"]["test"], "depth"),
    "Calibration": lambda m: (m["test_sets"]["test"], "calibration"),
    "Answerability": lambda m: (m["test_sets"]["test"], "answerability"),
    "Diagnosis": lambda m: (m["test_sets"]["test"], "diagnosis"),
    "Largest losses": lambda m: (m["test_sets"]["test"], "worst"),
    "Choices": lambda m: (m, "development"),
    "Fusion": lambda m: (m["development"], "fusion"),
    "Exports": lambda m: (m, "exports"),
    "Replicates": lambda m: (m, "replicates"),
}


class TestMissingParts:
    @pytest.mark.parametrize("heading", PARTS)
    @pytest.mark.parametrize("how", ["null", "absent", "empty"])
    def test_take_their_heading_with_them(self, metrics: dict[str, Any], heading: str, how: str) -> None:
        whole = Page(render_report(metrics)).headings
        holder, key = PARTS[heading](metrics)
        if how == "absent":
            del holder[key]
        else:
            holder[key] = None if how == "null" else type(holder[key])()
        page = Page(render_report(metrics))
        assert page.headings.count(heading) < whole.count(heading)
        assert not re.search(r"\b(None|nan|undefined)\b", page.text)

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("latency", "Latency, p50"),
            ("seconds", "Time by stage"),
            ("verdict", "Passed"),
            ("test_sets.test.ceiling", "in perfect order"),
            ("test_sets.test.leakage.free", "neither text nor"),
            ("test_sets.test.leakage.examples", "Test query"),
            ("test_sets.test.calibration.bins", "Reliability."),
            ("test_sets.test.calibration.histogram", "Scores."),
            ("test_sets.test.answerability.risk_coverage", "Risk and coverage."),
            ("test_sets.test.notes", "3 queries without"),
            ("development.fusion.curve", "Quality by weight."),
        ],
    )
    def test_leave_the_rest(self, metrics: dict[str, Any], path: str, text: str) -> None:
        assert text in Page(render_report(metrics)).text
        *outer, key = path.split(".")
        holder = metrics
        for name in outer:
            holder = holder[name]
        holder[key] = None
        page = Page(render_report(metrics))
        assert text not in page.text
        assert not re.search(r"\b(None|nan|undefined)\b", page.text)

    def test_depth_without_latency_has_no_latency_plot(self, metrics: dict[str, Any]) -> None:
        for holder in (metrics["test_sets"]["test"], metrics["development"]):
            holder["depth"] |= {"p50_ms": None, "p95_ms": None}
        assert "Cost of depth." not in Page(render_report(metrics)).text

    def test_nothing_at_all_is_still_a_page(self) -> None:
        page = Page(render_report({}))
        assert page.headings[0].startswith("Evaluation")
        assert "None" not in page.text


def test_one_query_with_no_interval_is_shown_without(metrics: dict[str, Any]) -> None:
    nothing = {"low": None, "high": None, "sd": None, "detectable": None, "gap_closed": None}
    found = metrics["test_sets"]["test"]
    found |= {"queries": 1, "differences": [0.3], "worst": []}
    found["systems"] = {name: found["systems"][name] | {"queries": 1} for name in ("first_stage", "pipeline")}
    found["comparisons"] = [comparison("pipeline", 0.3, queries=1, wins=1, ties=0, losses=0) | nothing]
    found["slices"] = [row(0.3, slice="s", value="v", queries=1) | nothing]
    found["depth"]["decay"] |= nothing
    page = Page(render_report(metrics))
    assert "1 query" in page.text
    assert "interval –" in page.text
    assert "Minimum detectable" not in page.text
    assert not re.search(r"\b(None|nan|undefined)\b", page.text)


@pytest.mark.parametrize(
    ("decay", "words"),
    [
        ({"delta": -0.02, "low": -0.03, "high": -0.01}, "going deeper costs quality"),
        ({"delta": 0.02, "low": 0.01, "high": 0.03}, "it still gains"),
        ({"delta": -0.01, "low": -0.03, "high": 0.01}, "no clear decay"),
        ({"to": 10}, "deeper may be better still"),
    ],
)
def test_decay_is_told_in_words(metrics: dict[str, Any], decay: dict[str, Any], words: str) -> None:
    metrics["development"] = None
    metrics["test_sets"]["test"]["depth"]["decay"] |= decay
    assert words in Page(render_report(metrics)).text


def test_of_one_depth_nothing_is_said_about_others(metrics: dict[str, Any]) -> None:
    """A depth that is set, or that of a cascade, is the best of one by construction."""
    metrics["development"] = None
    curve = metrics["test_sets"]["test"]["depth"]
    at = curve["depths"].index(curve["recommended"])
    curve |= {key: value[at : at + 1] for key, value in curve.items() if isinstance(value, list)}
    curve |= {"best": curve["recommended"], "knee": curve["recommended"]}
    curve["decay"] |= {"from": curve["recommended"], "to": curve["recommended"], "delta": 0.0, "low": 0.0, "high": 0.0}
    text = Page(render_report(metrics)).text
    assert f"Used is depth {curve['recommended']}" in text
    assert not any(words in text for words in ("deeper", "is best at", "the knee", "decay"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (interval({"low": -0.01, "high": 0.02}), "[−0.010, +0.020]"),
        (interval({"low": None, "high": 0.02}), "–"),
        (interval(None), "–"),
        (p_value(0.0002), "< 0.001"),
        (p_value(0.0137), "0.014"),
        (milliseconds(3.42), f"3.4{NBSP}ms"),
        (milliseconds(93.2), f"93{NBSP}ms"),
        (duration(3.21), f"3.2{NBSP}s"),
        (duration(241.9), f"4{NBSP}min{NBSP}2{NBSP}s"),
        (duration(5422.0), f"1{NBSP}h{NBSP}30{NBSP}min"),
        (duration(None), "–"),
    ],
)
def test_figures_in_words(text: str, expected: str) -> None:
    assert text == expected
