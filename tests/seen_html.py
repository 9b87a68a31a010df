"""Parser of a page, as a browser reads it."""

from html.parser import HTMLParser


class Seen(HTMLParser):
    """Collects tags with their attributes, and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags are closed in order"

    def handle_data(self, data):
        self.texts.append(data.strip())


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\" onload=\"alert(1)' hostile='-->"
    "<!--private-->{{ 7 * 7 }}"
)
"""A text that must not be interpreted: tags, ends of attributes and comments, template syntax."""


def check_harmless(html: str) -> Seen:
    """Check that hostile texts did not become tags, attributes or comments."""
    seen = Seen(html)
    assert seen.open == []
    assert not [tag for tag, _ in seen.tags if tag in ("script", "iframe", "object", "link")]
    for tag, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "hostile"], (
            tag,
            attributes,
        )
        assert attributes.get("src", "") != "x"
    assert "<!--" not in html
    assert "{{ 7 * 7 }}" in html
    return seen
