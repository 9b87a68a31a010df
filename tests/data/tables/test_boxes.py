from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.face_table import ReadReport
from mtmsa_lightning.data.tables.boxes import parse_boxes
from mtmsa_lightning.errors import DataError

CORNERS = ("box_left", "box_top", "box_right", "box_bottom")
SIZES = ("box_left", "box_top", "box_width", "box_height")


def parsed(names, *boxes):
    rows = pd.DataFrame([box.split(",") for box in boxes], columns=[*names], dtype="str")
    rows.index += 2
    report = ReadReport("t.csv", read=len(rows))
    found = parse_boxes(rows.assign(photo="a.jpg"), report, dict.fromkeys(names, "?"), Path("t.csv"))
    return found[[*BOX]].to_numpy().tolist(), report


def test_corners_and_sizes_give_the_same_box():
    boxes, report = parsed(CORNERS, "10,20.5,30,60", "-5,-1,7,9")
    assert boxes == [[10, 20.5, 30, 60, 0], [-5, -1, 7, 9, 0]]
    assert parsed(SIZES, "10,20.5,20,39.5", "-5,-1,12,10")[0] == boxes
    assert not report.dropped + report.notes


def test_a_missing_box_is_noted_and_a_wrong_one_dropped():
    boxes, report = parsed(CORNERS, "-1,-1,-1,-1", ",,NA,?", "5,5,5,9", "1,2,x,4", "1,2,,4", "1,2,inf,4")
    np.testing.assert_equal(boxes, np.full((2, 5), np.nan))
    assert [(note.line, note.reason) for note in report.notes] == [
        (2, "no face box: the whole image is used"), (3, "no face box: the whole image is used"),
    ]  # fmt: skip
    assert [row.line for row in report.dropped] == [4, 5, 6, 7]
    assert report.dropped[0].item == "a.jpg: box (5, 5, 5, 9)"


def test_columns_that_a_box_lacks_are_named():
    with pytest.raises(DataError, match=r"a face box needs box_left, .*; given: box_left: [?]"):
        parsed(("box_left",), "3")
