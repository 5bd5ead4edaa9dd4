"""A bake-off as a page."""

from __future__ import annotations

from html.parser import HTMLParser

from secondstage.bakeoff.page import render_page

from .test_bakeoff_table import FOUND


class Tags(HTMLParser):
    """Checks that what is opened is closed, and collects the text."""

    VOID = ("meta", "br", "path", "circle", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_escapes_its_texts_and_needs_no_network() -> None:
    page = render_page(FOUND)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "x wins: <at last>" in tags.text
    assert "&lt;at last&gt;" in page
    assert "a & b" in tags.text
    assert 'train.loss: {"kl": 1}' in tags.text
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert page.count('class="strip') == 2
    assert page.count('<tr class="pipeline"><th scope="row">x</th>') == 1
