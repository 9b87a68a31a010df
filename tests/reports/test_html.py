import base64
from types import SimpleNamespace

import pandas as pd
import pytest
from seen_html import HOSTILE, Seen, check_harmless

from mtmsa_lightning.reports.html import TEMPLATES, Page, Picture, without_faces, write_page

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def seen(tmp_path):
    page = Page("Ages <b> & more", "lead")
    page.section("Faces")
    page.text("bad", "error")
    page.text("<two>")
    rows = {"name": ["<a>", "b"], "MAE": ["2.81", "-"], "found": ["2 files", "3 faces"]}
    page.table(pd.DataFrame(rows), "a caption")
    page.row([Picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 'a "picture"')])
    page.tiles([Picture(PNG, "p"), Picture(b"\xff\xd8\xff\xe0", "j")])
    page.write(tmp_path / "sub" / "page.html")
    return Seen((tmp_path / "sub" / "page.html").read_text())


def test_texts_are_escaped_and_tags_are_closed(seen):
    assert seen.open == []
    assert {"Ages <b> & more", "lead", "Faces", "bad", "<two>", "<a>", "a caption"} <= set(seen.texts)
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


def test_hostile_texts_stay_texts_everywhere_on_a_page(tmp_path):
    page = Page(HOSTILE, HOSTILE)
    page.section(HOSTILE)
    page.text(HOSTILE, HOSTILE)
    page.table(pd.DataFrame({HOSTILE: [HOSTILE]}), HOSTILE)
    page.row([Picture(PNG, HOSTILE)])
    page.tiles([Picture(PNG, HOSTILE)])
    page.write(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    seen = check_harmless(html)
    assert seen.texts.count(HOSTILE) == 10
    assert without_faces(html) == html


def test_hostile_texts_stay_texts_on_the_page_of_an_audit(tmp_path):
    finding = SimpleNamespace(severity=HOSTILE, kind="k", text=HOSTILE, examples=[HOSTILE])
    split = SimpleNamespace(summary=lambda: HOSTILE)
    audit = SimpleNamespace(
        findings=[finding], split=split, comparisons=[1], table=SimpleNamespace(label_rule=HOSTILE),
        thresholds=SimpleNamespace(near=1, min_sharpness=1.0, min_side=1),
    )  # fmt: skip
    tables = ("findings", "baselines", "comparisons", "images", "severities")
    write_page(
        tmp_path / "audit.html", "audit.html", title=HOSTILE, lead=HOSTILE, mark=HOSTILE, verdict=HOSTILE,
        audit=audit, counts=Picture(PNG, HOSTILE), details=[(finding, [Picture(PNG, HOSTILE)])],
        kinds={"k": SimpleNamespace(meaning=HOSTILE)}, hash_bits=1, sharpness_side=1, seconds=HOSTILE,
        class_counts=[pd.DataFrame({HOSTILE: [HOSTILE]})],
        **dict.fromkeys(tables, pd.DataFrame({HOSTILE: [HOSTILE]})),
    )  # fmt: skip
    seen = check_harmless((tmp_path / "audit.html").read_text())
    assert seen.texts.count(HOSTILE) >= 20


def test_every_template_is_tested_with_hostile_texts():
    """Here, and in the tests of the app's parts, of cards and of Markdown; a new template needs a test."""
    pages = {"page.html", "blocks.html", "audit.html", "app.html"}
    texts = {"card.md", "comparison.md", "folds.md", "study.md"}
    assert {file.name for file in TEMPLATES.iterdir()} == pages | texts | {"style.css"}


def test_what_shows_faces_can_be_removed(tmp_path):
    page = Page("t")
    with page.private():
        page.text("a face")
        page.tiles([Picture(PNG, "another")])
    page.text("no face")
    page.write(tmp_path / "page.html")
    html = without_faces((tmp_path / "page.html").read_text())
    assert "a face" not in html
    assert "another" not in html
    assert Seen(html).texts.count("no face") == 1


def test_private_ends_with_its_block_also_after_an_error_and_inside_another_block(tmp_path):
    page = Page("t")
    with pytest.raises(ValueError, match="no face"), page.private():
        raise ValueError("no face")
    page.text("after the error")
    with page.private():
        with page.private():
            page.text("inner face")
        page.text("outer face")
    page.write(tmp_path / "page.html")
    texts = Seen(without_faces((tmp_path / "page.html").read_text())).texts
    assert "after the error" in texts
    assert not {"inner face", "outer face"} & set(texts)


def test_an_empty_table_has_its_heads(tmp_path):
    page = Page("t")
    page.table(pd.DataFrame(columns=["a", "b"]))
    page.write(tmp_path / "page.html")
    assert [tag for tag, _ in Seen((tmp_path / "page.html").read_text()).tags].count("th") == 2
