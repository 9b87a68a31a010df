import json
from dataclasses import replace

import pytest

from mtmsa_lightning.data.audit.published_counts import compare
from mtmsa_lightning.data.datasets import morph
from mtmsa_lightning.data.datasets.adience import read_adience
from mtmsa_lightning.data.datasets.morph import read_morph
from mtmsa_lightning.data.face_table import FaceTable, ReadReport
from mtmsa_lightning.data.release_files import ImageListing
from mtmsa_lightning.data.synthetic import write_morph


def test_a_whole_morph_agrees_and_a_part_of_it_does_not(full_morph, monkeypatch):
    root, photos = full_morph
    monkeypatch.setattr(morph, "list_images", lambda root: ImageListing(photos))
    assert all(comparison.agrees for comparison in compare(read_morph(root)))
    monkeypatch.setattr(morph, "list_images", lambda root: ImageListing(photos[1:]))
    differing = {comparison.what for comparison in compare(read_morph(root)) if not comparison.agrees}
    assert differing == {"faces", "white", "male"}  # the first photo shows a White man with other pictures


@pytest.mark.parametrize(("rule", "counts"), [("canonical", 7), ("extended", 2)])
def test_a_whole_adience_agrees(full_adience, rule, counts):
    compared = compare(read_adience(full_adience, rule))
    assert [comparison for comparison in compared if not comparison.agrees] == []
    assert len(compared) == counts


def test_a_prepared_set_has_the_rows_of_its_release(full_adience, tmp_path):
    table = read_adience(full_adience, "canonical")
    record = {"format_version": 1, "dataset": "adience", "label_rule": table.label_rule, "race_classes": [],
              "table": "faces.parquet", "release": {"read": table.report.read}}  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    prepared = replace(table, root=tmp_path, report=ReadReport("faces.parquet", read=len(table)))
    assert compare(prepared) == compare(table)


@pytest.mark.parametrize(
    ("faces", "agrees"), [(23_705, True), (23_700, True), (23_900, True), (23_000, False)]
)
def test_copies_of_utkface_may_differ_a_little(face_table, faces, agrees):
    table = face_table(faces)
    table = FaceTable(
        table.frame, table.root, "utkface", "utkface file names", table.race_classes, table.report
    )
    ((what, found, published, result),) = compare(table)
    assert (what, found, published, result) == ("faces", faces, 23_705, agrees)


def test_what_was_never_published_is_not_compared(face_table, tmp_path):
    assert compare(face_table(3)) == []
    write_morph(tmp_path / "drawn", n_faces=10, size=64)
    assert compare(read_morph(tmp_path / "drawn")) == []
