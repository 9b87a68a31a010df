import base64
from html.parser import HTMLParser

import pandas as pd
import pytest

from mtmsa_lightning.reports.html import Page, Picture

PNG = b"\x89PNG\r\n\x1a\n"


class Seen(HTMLParser):
    """Collects the tags with their attributes, and the texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags are closed in order"

    def handle_data(self, data):
        self.texts.append(data.strip())


@pytest.fixture
def seen(tmp_path):
    page = Page("Ages <b> & more", "lead")
    page.section("Faces")
    page.text("bad", "error")
    page.items(["one", "<two>"])
    page.items(["first"], numbered=True)
    page.code("mtmsa fit")
    rows = {"name": ["<a>", "b"], "MAE": ["2.81", "-"], "found": ["2 files", "3 faces"]}
    page.table(pd.DataFrame(rows), "a caption")
    page.picture(Picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 'a "picture"'))
    page.tiles([Picture(PNG, "p"), Picture(b"\xff\xd8\xff\xe0", "j")])
    page.write(tmp_path / "sub" / "page.html")
    return Seen((tmp_path / "sub" / "page.html").read_text())


def test_texts_are_escaped_and_tags_are_closed(seen):
    assert seen.open == []
    assert {"Ages <b> & more", "lead", "Faces", "bad", "<two>", "mtmsa fit", "<a>", "a caption"} <= set(
        seen.texts
    )
    assert not [tag for tag, _ in seen.tags if tag in ("b", "a", "two", "script", "link")]


def test_pictures_are_embedded_with_their_kind(seen):
    images = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert [image["src"].partition(";")[0] for image in images] == [
        "data:image/svg+xml", "data:image/png", "data:image/jpeg",
    ]  # fmt: skip
    assert base64.b64decode(images[1]["src"].partition(",")[2]) == PNG
    assert images[0]["alt"] == 'a "picture"'


def test_columns_of_numbers_are_set_flush_right(seen):
    heads = [attributes for tag, attributes in seen.tags if tag == "th"]
    assert heads == [{}, {"class": "number"}, {}], "sentences that begin with a number are no numbers"
