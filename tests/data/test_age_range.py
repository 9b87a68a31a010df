import logging

import numpy as np
import pytest

from mtmsa_lightning.data.age_range import check_years
from mtmsa_lightning.errors import ConfigError


def test_labels_outside_the_years_are_counted_and_named_by_part(face_table, caplog):
    low, high = [10, 39, 41, 38, 60, np.nan, 5, 5], [10, 39, 41, 43, 100, np.nan, 5, 5]
    faces = face_table(8, age_low=low, age_high=high).frame
    with caplog.at_level(logging.WARNING):
        check_years({"train": faces, "val": faces[:2]}, (0, 40))
    (text,) = caplog.messages
    assert text.startswith("2 of 7 train age labels lie outside the years 0 to 40 of the age head: ")
    assert "'made/00002.jpg (41)', 'made/00004.jpg (60-100)': they count as the nearest" in text


@pytest.mark.parametrize(("years", "raises"), [((0, 10), True), ((60, 90), True), ((0, 35), False)])
def test_most_labels_outside_are_an_error(face_table, caplog, years, raises):
    faces = face_table(30).frame  # ages 20 to 49
    if raises:
        with pytest.raises(ConfigError, match=r"30 of 30 test .*, \.\.\.: set model.age.min_age"):
            check_years({"test": faces}, years)
    else:
        check_years({"test": faces}, years)
        assert "14 of 30 test" in caplog.text
