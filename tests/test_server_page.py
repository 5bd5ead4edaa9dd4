"""The page at `/`, in a real browser: against a small server that does as it is told, and against the real one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from secondstage.page import STYLE

from .browsing import Page, chromium, find_browser, running, wait_for
from .pageserver import DEPTH, HOSTILE, PageServer, documents

pytest.importorskip("fastapi", reason="the server's libraries are missing: pip install 'secondstage[server]'")
pytest.importorskip("selenium", reason="selenium is missing: pip install selenium")
if find_browser() is None:
    pytest.skip("no Chromium with its chromedriver: apt-get install chromium chromium-driver", allow_module_level=True)

import httpx
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.keys import Keys

from secondstage.config import ServerConfig
from secondstage.serve import Pipeline
from secondstage.serve.server.app import make_app
from secondstage.serve.server.page import FILES, FOLDER, HEADERS, POLICY, page_router
from secondstage.serve.server.service import Service
from secondstage.serve.server.signals import Judged

# A browser takes seconds to start, and each page a part of one.
pytestmark = pytest.mark.slow

SHOWN = 10
FIRST = [f"d{i}" for i in range(1, SHOWN + 1)]
TURNED = [f"d{i}" for i in range(DEPTH, DEPTH - SHOWN, -1)]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[PageServer, str]]:
    server = PageServer()
    server.app.include_router(page_router())
    with running(server.app) as url:
        yield server, url


@pytest.fixture
def server(pages: tuple[PageServer, str]) -> PageServer:
    pages[0].reset()
    return pages[0]


@pytest.fixture
def page(driver: WebDriver, pages: tuple[PageServer, str], server: PageServer) -> Page:
    return Page(driver, pages[1])


@pytest.fixture(scope="module")
def modules(driver: WebDriver, pages: tuple[PageServer, str]) -> Page:
    """A page of the server on which its modules are called."""
    page = Page(driver, pages[1])
    page.open("/icon.svg")
    return page


def search(page: Page, query: str = "the text") -> None:
    page.open("/?q=" + query.replace(" ", "+"))
    page.see("#status", "moved")


def ids(page: Page, side: str) -> list[str]:
    found: list[str] = page.run(
        "return [...document.querySelectorAll(`#${arguments[0]} > li`)].map((item) => item.dataset.doc)", side
    )
    return found


# --- what is shown


def test_a_search_shows_both_lists_and_who_moved(page: Page, server: PageServer) -> None:
    page.open()
    page.see("#message", "Type a query")
    page.press("the text", Keys.ENTER)
    page.see("#status", "The first 10 of 12: 4 moved up, 4 down, 0 stayed, 2 came from below.")
    assert server.asked == [{"query": "the text", "top_n": DEPTH, "explain": True}]
    assert (ids(page, "first"), ids(page, "final")) == (FIRST, TURNED)
    assert page.driver.current_url.endswith("/?q=the+text")
    assert page.text("#about") == "small · 12 documents · turner"
    # One line for each document in both lists; a whole one up, a dashed one down, and an arrow at the end of both.
    lines = {line.get_attribute("data-doc"): line for line in page.all("#lines path.line")}
    assert set(lines) == set(FIRST) & set(TURNED)
    up, down = lines["d10"], lines["d3"]
    assert up.get_attribute("class") == "line up"
    assert up.get_attribute("marker-end") == "url(#arrow-up)"
    assert up.value_of_css_property("stroke-dasharray") == "none"
    assert down.get_attribute("class") == "line down"
    assert down.get_attribute("marker-end") == "url(#arrow-down)"
    assert down.value_of_css_property("stroke-dasharray") != "none"
    assert page.one("#final [data-doc=d10] .sign").text.startswith("▲ 7")
    assert page.one("#final [data-doc=d3] .sign").text.startswith("▼ 7")
    assert page.one("#first [data-doc=d1]").text.endswith("now at 12")
    assert page.log() == []


def test_a_line_joins_the_two_places_of_its_document(page: Page) -> None:
    search(page)
    ends = page.run("""
        const top = document.getElementById("lines").getBoundingClientRect().top;
        const middle = (side) => {
          const rank = document.querySelector(`#${side} [data-doc=d9] .rank`).getBoundingClientRect();
          return rank.top + rank.height / 2 - top;
        };
        const line = document.querySelector("#lines [data-doc=d9]");
        const last = line.getPointAtLength(line.getTotalLength());
        return [line.getPointAtLength(0).y, last.y, middle("first"), middle("final")];
    """)
    assert ends[:2] == pytest.approx(ends[2:], abs=0.5)


def test_all_results_are_a_click_away(page: Page) -> None:
    search(page)
    page.one("#more").click()
    page.see("#status", "12 found: 6 moved up, 6 down, 0 stayed.")
    assert ids(page, "final") == [f"d{i}" for i in range(DEPTH, 0, -1)]
    assert len(page.all("#lines path.line")) == DEPTH
    page.one("#more").click()
    assert ids(page, "final") == TURNED


def test_scores_and_times(page: Page) -> None:
    search(page)
    assert page.text("#final [data-doc=d12] .facts-line").endswith("fused 1.000reranker 4.00probability 90 %")
    assert page.texts(".stages li") == ["first stage 2.0", "queue 1.0", "rerank 36", "rest 1.0", "total 40 ms"]
    grown = page.run(
        "return [...document.querySelectorAll('.stage')].map((stage) => stage.getBoundingClientRect().width)"
    )
    assert grown[2] == pytest.approx(18 * grown[0], rel=0.05)
    assert page.text("#verdict") == "A relevant document is probably among these (confidence 0.87)."


def test_the_banner_warns_where_nothing_is_probably_relevant(page: Page, server: PageServer) -> None:
    server.changes = {"answerable": False, "confidence": 0.12}
    search(page)
    page.see(".banner.refused", "Probably no relevant document (confidence 0.12)")


def test_the_banner_tells_of_a_fallback(page: Page, server: PageServer) -> None:
    server.changes = {"confidence": None, "fell_back": True}
    search(page)
    assert page.text("#verdict").startswith("This is the first stage's order")


def test_nothing_found(page: Page, server: PageServer) -> None:
    server.changes = {"results": [], "first_stage": []}
    page.open("/?q=zzz")
    page.see("#message", "Nothing found.")
    page.one("#min").click()
    page.see("#message", "No result has a probability of 50 %.")
    assert server.asked[-1]["min_score"] == 0.5


def test_words_of_the_query_are_marked(page: Page) -> None:
    search(page, "the CAFE creme goes")
    assert page.texts("#final [data-doc=d3] .opener mark") == ["Café", "crème"]
    assert set(page.texts("#final mark")) == {"Café", "crème", "goes"}


def test_texts_are_never_markup(page: Page) -> None:
    search(page, "<img src=x onerror=hacked>")
    page.one("#first [data-doc=d1] .opener").click()
    assert page.text("#first [data-doc=d1] .opener") == HOSTILE
    assert "<script>window.hacked = 2</script>" in page.text("#first [data-doc=d1] .full")
    assert page.all("#lists img, #lists b b, #lists script") == []
    assert page.run("return window.hacked ?? null") is None
    # Even a mistake in the page could not make markup of them: the policy forbids it.
    refused = page.run(
        "try { document.createElement('p').innerHTML = '<b>'; return '' } catch (error) { return error.name }"
    )
    assert refused == "TypeError"


# --- the depth


def test_the_slider_asks_for_another_depth_once(page: Page, server: PageServer) -> None:
    search(page)
    page.run("""
        const slider = document.getElementById("depth");
        for (const depth of [9, 6, 3]) { slider.value = depth; slider.dispatchEvent(new Event("input")) }
    """)
    page.see("#depth-used", "3 reranked")
    assert [body.get("depth") for body in server.asked] == [None, 3]
    assert ids(page, "final") == ["d3", "d2", "d1", *FIRST[3:]]
    assert page.text("#depth-shown") == "3"
    assert "did not read it" in page.text("#final [data-doc=d4] .facts-line")
    assert page.driver.current_url.endswith("?q=the+text&depth=3")
    page.driver.refresh()
    page.see("#depth-used", "3 reranked")
    assert page.one("#depth").get_attribute("value") == "3"
    assert page.one("#depth").get_attribute("max") == str(DEPTH)


def test_only_the_last_search_is_shown(page: Page, server: PageServer) -> None:
    search(page)
    server.seconds = 0.4
    page.press("1", Keys.ENTER)
    wait_for(lambda: len(server.asked) == 2)
    server.seconds = 0.0
    page.press("2", Keys.ENTER)
    page.see("#status", "moved")
    wait_for(lambda: page.driver.title.startswith("the text12"))
    assert page.one("#lists").get_attribute("aria-busy") is None
    page.driver.back()
    wait_for(lambda: page.driver.title.startswith("the text1 "))


# --- judgements


def test_a_judgement_is_one_click(page: Page, server: PageServer) -> None:
    search(page)
    page.one("#final [data-doc=d10] [data-grade='1']").click()
    page.see("#final [data-doc=d10] .became", "✓ kept: 1, relevant")
    judgement = {"id": "search-1", "query": "the text", "doc_id": "d10", "kind": "judgement"}
    assert server.judged == [{**judgement, "relevance": 1}]
    assert page.one("#final [data-doc=d10] [data-grade='1']").get_attribute("aria-pressed") == "true"
    # It shows at the document, wherever that is, and stays when the depth changes.
    assert page.text("#first [data-doc=d10] .became") == "✓ kept: 1, relevant"
    page.one("#final [data-doc=d10] [data-grade='0']").click()
    page.see("#final [data-doc=d10] .became", "✓ kept: 0, not relevant")
    assert server.judged[1:] == [{**judgement, "relevance": 0}]
    page.one("#more").click()
    assert page.text("#final [data-doc=d10] .became") == "✓ kept: 0, not relevant"


def test_a_judgement_that_is_not_kept_says_why(page: Page, server: PageServer) -> None:
    search(page)
    server.refusal = (404, {"error": {"message": "no judgements are kept: start the server with judgements=FILE"}}, {})
    page.one("#final [data-doc=d10] [data-grade='1']").click()
    page.see("#final .became.failed", "Not kept: no judgements are kept: start the server with judgements=FILE")
    assert page.one("#final [data-doc=d10] [data-grade='1']").get_attribute("aria-pressed") == "false"


def test_where_none_is_kept_there_are_no_buttons(page: Page, server: PageServer) -> None:
    server.judging = False
    search(page)
    assert not any(button.is_displayed() for button in page.all(".judge"))
    server.refusal = (404, {"error": {"message": "judgements are not kept here"}}, {})
    page.press(Keys.ARROW_DOWN, "1")
    page.see("#final [data-doc=d12] .became", "Not kept: judgements are not kept here")


# --- the keyboard


def test_everything_is_done_with_keys(page: Page, server: PageServer) -> None:
    search(page)
    assert page.focused() == "box"
    page.press(Keys.ARROW_DOWN)
    assert page.focused() == "final d12"
    page.press("jj", Keys.ARROW_DOWN, "k")
    assert page.focused() == "final d10"
    page.press(Keys.ENTER)
    page.see("#final [data-doc=d10] .full", "The end.")
    assert page.one("#final [data-doc=d10] .opener").get_attribute("aria-expanded") == "true"
    page.press(Keys.ENTER)
    assert not page.one("#final [data-doc=d10] .full").is_displayed()
    page.press(Keys.ARROW_LEFT)
    assert page.focused() == "first d10"
    assert page.one("#lines [data-doc=d10]").get_attribute("class") == "line up same-document"
    page.press("3")
    page.see("#first [data-doc=d10] .became", "✓ kept: 3, perfect")
    assert [(body["doc_id"], body["relevance"]) for body in server.judged] == [("d10", 3)]
    page.press("l")
    assert page.focused() == "final d10"
    page.press("?")
    page.see("#help", "next, previous result")
    page.press("j", "2", Keys.ESCAPE)
    assert not page.one("#help").is_displayed()
    assert page.focused() == "final d10"
    assert len(server.judged) == 1
    page.press("/", "j? 2", Keys.ENTER)
    wait_for(lambda: server.asked[-1]["query"] == "j? 2")
    assert len(server.judged) == 1


def test_a_document_stays_marked_when_the_lines_are_drawn_anew(page: Page) -> None:
    search(page)
    page.press(Keys.ARROW_DOWN, "jj")
    line = "#lines [data-doc=d10]"
    assert "same-document" in str(page.one(line).get_attribute("class"))
    page.run("document.querySelector(arguments[0]).id = 'drawn-before'", line)
    # An open text moves what is below it, and the lines with it.
    page.press(Keys.ENTER)
    wait_for(lambda: not page.all("#drawn-before"))
    assert "same-document" in str(page.one(line).get_attribute("class"))


def test_the_focus_is_seen(page: Page) -> None:
    search(page)
    page.press(Keys.ARROW_DOWN)
    opener = page.one("#final [data-doc=d12] .opener")
    assert opener.value_of_css_property("outline-style") == "solid"


def test_everything_has_a_name(page: Page) -> None:
    search(page)
    unnamed = [
        one.get_attribute("outerHTML")
        for one in page.all("header button, form > *, .controls *, nav, section, .item:first-child button, #more")
        if one.tag_name in ("button", "input", "section", "nav") and one.is_displayed() and not one.accessible_name
    ]
    assert unnamed == []
    assert page.one("#status").get_attribute("aria-live") == "polite"
    assert [page.one(f"#{side}").aria_role for side in ("first", "final")] == ["list", "list"]


# --- what goes wrong


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((429, {"error": {"message": "the server is overloaded"}}, {"Retry-After": "3"}), "Try again in 3 s."),
        ((422, {"detail": [{"loc": ["body", "depth"], "msg": "too deep"}]}, {}), "depth: too deep"),
        ((400, {"error": "the query is empty"}, {}), "the query is empty"),
        ((502, ["<html>"], {}), "<html>"),
        ((503, {}, {}), "The server answered with status 503."),
    ],
)
def test_the_words_of_an_error_are_shown(
    page: Page, server: PageServer, refusal: tuple[int, object, dict[str, str]], words: str
) -> None:
    server.refusal = refusal
    page.open("/?q=text")
    page.see("#message [role=alert]", words)
    server.refusal = None
    page.one("#message button").click()
    page.see("#status", "moved")
    assert not page.texts("#message [role=alert]")


def test_no_server(page: Page) -> None:
    search(page)
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        page.press("2", Keys.ENTER)
        page.see("#message [role=alert]", "This computer is offline.")
    finally:
        page.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {**offline, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1},
        )


def test_a_key_is_asked_for_once(page: Page, server: PageServer) -> None:
    server.key = "sesame"
    page.open("/?q=text")
    page.see("#key", "This server wants an API key")
    page.press("simsalabim", Keys.ENTER)
    page.see("#key-words", "The server did not accept this key.")
    page.press("sesame", Keys.ENTER)
    page.see("#status", "moved")
    assert page.text("#about") == "small · 12 documents · turner"
    page.driver.refresh()
    page.see("#status", "moved")
    assert not page.one("#key").is_displayed()
    server.key = "changed"
    page.one("#final .judge").click()
    page.see("#key-words", "The server did not accept this key.")
    page.press(Keys.ESCAPE)
    page.see("#final .became.failed", "Not kept: no API key, or an unknown one")
    assert server.judged == []


# --- how it looks


def test_a_narrow_window_stacks_the_lists(page: Page) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        search(page)
        assert page.run("return document.documentElement.scrollWidth") <= 400
        assert not page.one("#lines").is_displayed()
        first, final = page.one("#first").rect, page.one("#final").rect
        assert final["y"] + final["height"] < first["y"]
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind(page: Page, scheme: str) -> None:
    """WCAG AA: a contrast of 4.5."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        search(page)
        paper = page.one("body").value_of_css_property("background-color")
        assert (luminance(paper) > 0.5) == (scheme == "light")
        for selector in (".opener", ".teaser", ".facts-line", ".sign.up", ".sign.down", ".judge", "nav a", "#status"):
            assert contrast(page.one(selector).value_of_css_property("color"), paper) >= 4.5, selector
        mark = page.one(".teaser mark")
        assert contrast(mark.value_of_css_property("color"), mark.value_of_css_property("background-color")) >= 4.5
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(color: str) -> float:
    """Of `rgb(r, g, b)`, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# --- the functions


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("Crème BRÛLÉE", "creme brulee", ["Crème", "BRÛLÉE"]),
        ("cre\u0300me", "crème", ["cre\u0300me"]),
        ("vaccines, revaccination", "Vaccine", ["vaccine"]),
        ("the cat and the dog", "the dog", ["dog"]),
        ("the cat and the dog", "the", ["the", "the"]),
        ("a 5-day visa", "5 day", ["5", "day"]),
        ("東京の天気", "天気", ["天気"]),
        ("𐐁𐐁𐐁 😀 beta", "𐐩𐐩 beta", ["𐐁𐐁", "beta"]),
        ("ﬁnally", "final", ["ﬁnal"]),
        ("İstanbul ıs", "istanbul", ["İstanbul"]),
        ("c++ (draft) [x] .*", "c++ .* [x]", ["c", "x"]),
        ("two students, one student", "students", ["students", "student"]),
        ("his glass", "this gas", []),
        ("nothing here", "other", []),
        ("", "word", []),
        ("covering cover", "cover covering", ["covering", "cover"]),
    ],
)
def test_matches(modules: Page, text: str, query: str, marked: list[str]) -> None:
    places = "m.matches(a[0], m.queryWords(a[1])).map(([from, to]) => a[0].slice(from, to))"
    assert modules.call("words.js", places, text, query) == marked


def test_marking_changes_no_character(modules: Page) -> None:
    for document in documents():
        assert (
            modules.call("words.js", "m.marked(a[0], m.queryWords('text on alert')).textContent", document["text"])
            == (document["text"])
        )


def test_an_excerpt_is_around_the_first_match(modules: Page) -> None:
    text = "word " * 200 + "needle in the hay " + "straw " * 200
    found = modules.call("words.js", "m.excerpt(a[0], ['needle'], 100)", text)
    assert re.fullmatch(r"… (word )+needle in the hay( straw)+ …", found)
    assert len(found) <= 104
    assert modules.call("words.js", "m.excerpt(a[0], ['absent'], 100)", text).startswith("word word")
    assert modules.call("words.js", "m.excerpt('short', ['absent'], 100)") == "short"
    assert modules.call("words.js", "m.excerpt('x'.repeat(300), [], 100)") == "x" * 100 + " …"


def test_stages_add_up_to_the_total(modules: Page) -> None:
    """The queue is a part of what reranking took."""
    assert modules.call("timing.js", "m.stages({first_stage: 3, rerank: 20, queue: 5, total: 30})") == [
        ["first_stage", 3], ["queue", 5], ["rerank", 15], ["rest", 7],
    ]  # fmt: skip
    assert modules.call("timing.js", "m.stages({first_stage: 3, rerank: 7, total: 10})") == [
        ["first_stage", 3],
        ["rerank", 7],
    ]


# --- the files


def test_pages_and_what_they_load_come_from_here() -> None:
    assert POLICY.startswith("default-src 'self';")
    assert "unsafe" not in POLICY
    assert set(FILES.values()) == {
        *(path for path in FOLDER.iterdir() if path.suffix not in (".py", ".pyc", "")),
        STYLE,
    }
    for address, path in FILES.items():
        text = path.read_text(encoding="utf-8")
        elsewhere = set(re.findall(r"(?:https?:)?//[a-z][\w.]+", text)) - {"http://www.w3.org"}
        assert elsewhere == set(), address
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), address
        if path.suffix == ".html":
            assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! type=\"module\" src=)", text), address
            links = re.findall(r"(?:href|src)=\"([^\"]*)\"", text)
            assert {f"/{link.removeprefix('./')}" for link in links} <= {*FILES, "/openapi.json"}
        if path.suffix == ".js":
            assert {f"/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)} <= set(FILES)


def test_every_file_has_its_headers(pages: tuple[PageServer, str]) -> None:
    with httpx.Client(base_url=pages[1], trust_env=False) as client:
        for address, path in FILES.items():
            answer = client.get(address)
            assert (answer.status_code, answer.content) == (200, path.read_bytes())
            assert HEADERS.items() <= {name: answer.headers.get(name) for name in HEADERS}.items()
            assert client.head(address).headers["content-length"] == str(len(answer.content))
        assert not set(FILES) & set(client.get("/openapi.json").json()["paths"])


# --- the real server


@pytest.fixture(scope="module")
def real(run_folder: Path, driver: WebDriver) -> Iterator[tuple[Page, list[Judged]]]:
    """The page of a server of a whole bundle in the reranker's order, and the judgements that it keeps."""
    kept: list[Judged] = []
    pipeline = Pipeline.load(run_folder / "bundle")
    pipeline.weight = 1.0
    service = Service(pipeline, ServerConfig(), name="tiny", keep=kept.append)
    with running(make_app(service)) as url:
        yield Page(driver, url), kept


def test_the_page_of_a_bundle(real: tuple[Page, list[Judged]], run_folder: Path) -> None:
    page, kept = real
    page.open("/?q=king+of+the+chess")
    page.see("#status", "The first 10 of 20")
    pipeline = Pipeline.load(run_folder / "bundle")
    pipeline.weight = 1.0
    answer = pipeline.answer("king of the chess", top_n=20)
    first = answer.trace.first[:SHOWN]
    final = [result.doc_id for result in answer.results[:SHOWN]]
    assert (ids(page, "first"), ids(page, "final")) == (first, final)
    assert {line.get_attribute("data-doc") for line in page.all("#lines path.line")} == set(first) & set(final)
    assert set(page.texts("#final mark")) == {"king", "chess"}
    assert page.text("#about") == "tiny · 64 documents · torch"
    assert page.one("#depth").get_attribute("max") == "20"
    page.press(Keys.ARROW_DOWN, "2")
    page.see("#final .became", "✓ kept: 2, very relevant")
    assert [(one.query, one.doc_id, one.relevance, one.kind) for one in kept] == [
        ("king of the chess", final[0], 2, "judgement")
    ]
    page.run(
        "const slider = document.getElementById('depth'); slider.value = 1; slider.dispatchEvent(new Event('input'))"
    )
    page.see("#depth-used", "1 reranked")
    assert page.text("#final li:first-child .sign").startswith("=")
    assert page.log() == []


def test_the_page_shows_the_refusals_of_a_server(real: tuple[Page, list[Judged]]) -> None:
    page, _ = real
    page.open("/?q=" + "long+" * 2500)
    page.see("#message [role=alert]", "10000")


def test_the_api_is_readable(real: tuple[Page, list[Judged]]) -> None:
    page, _ = real
    page.open("/docs")
    page.see("h2", "/search")
    described = httpx.get(f"{page.url}/openapi.json", trust_env=False).json()
    expected = [f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item]
    assert page.texts("main > section > h2") == expected
    rows = page.run(
        "return [...document.getElementById('post-search').parentElement.querySelectorAll('details[open] tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert rows[0][0] == "queryrequired"
    assert rows[2][2] == "Candidates that are reranked; by default as was chosen on dev."
    assert [row[0] for row in rows[1:3]] == ["top_n", "depth"]
    assert rows[1][1] == "integer ≥ 1 ≤ 200, 10 unless told"
    assert rows[2][1] == "integer ≥ 1 ≤ 200 or null"
    assert "[object" not in page.text("body")
    assert "undefined" not in page.text("body")
    assert page.log() == []
