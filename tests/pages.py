"""The report's page, taken apart."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree


class Page(HTMLParser):
    """Tags must close in turn; collects what is fetched and what is read."""

    VOID = ("meta", "img", "br", "source")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "srcset", "href", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(out: Path) -> tuple[str, Page]:
    from harkback.page import html

    text = html(out)
    return text, Page(text)


def pictures(page: Page, kind: str) -> list[bytes]:
    head = f"data:image/{kind};base64,"
    return [base64.b64decode(uri.removeprefix(head)) for uri in page.fetched if uri.startswith(head)]


def texts_of(svg: bytes) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]
