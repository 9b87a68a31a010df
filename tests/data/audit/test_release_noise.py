from dataclasses import replace

from mtmsa_lightning.data.audit.findings import KINDS
from mtmsa_lightning.data.audit.release_noise import (
    double_blocks,
    near_names,
    photos_of_both_genders,
    same_pictures,
)
from mtmsa_lightning.data.datasets.afad import read_afad
from mtmsa_lightning.data.datasets.agedb import read_agedb


def test_people_in_two_blocks_of_numbers_are_found(tmp_path, touch):
    names = [
        "10_Ann_30_f", "11_Ann_41_f", "12_Ann_30_f", "900_Ann_41_m", "901_Ann_30_m", "902_Ann_30_m",
        "20_Bob_30_m", "21_Bob_31_f",  # other ages
        "30_Cid_30_m", "31_Cid_30_m", "32_Cid_30_f",  # other counts
        "40_Dan_30_m", "41_Eve_30_f",
    ]  # fmt: skip
    touch(tmp_path, [f"{name}.jpg" for name in names])
    table = read_agedb(tmp_path)
    (finding,) = double_blocks(table)
    assert finding.text == "subjects listed twice, as male and female: 1 (3 probable pairs of copies)"
    assert finding.examples == ("Ann: 3 pairs, numbers 900 to 902 and 10 to 12",)
    pairs = [tuple(table.frame["number"][list(group)]) for group in finding.groups]
    assert pairs == [(901, 10), (902, 12), (900, 11)]


def test_names_that_differ_by_a_letter_side_by_side_are_found(tmp_path, touch):
    names = ["1_OskarWerner_30_m", "2_OskarWernr_31_m", "3_OskarWerner_32_m", "4_BetteDavis_30_f"]
    touch(tmp_path, [f"{name}.jpg" for name in [*names, "5_Ann_1_f", "900_BetteDavies_30_f"]])
    (finding,) = near_names(read_agedb(tmp_path))
    assert finding.examples == ("OskarWerner (2) and OskarWernr (1)",)
    assert finding.groups == ((0, 1, 2),)


def test_photos_with_faces_of_both_genders_are_found(tmp_path, touch):
    touch(
        tmp_path, ["15/111/7-0.jpg", "15/111/7-1.jpg", "20/112/7-2.jpg", "15/111/8-0.jpg", "16/111/8-1.jpg"]
    )
    (finding,) = photos_of_both_genders(read_afad(tmp_path))
    assert finding.examples == ("7: afad/15/111/7-0.jpg, afad/15/111/7-1.jpg, afad/20/112/7-2.jpg",)
    assert (finding.count, finding.severity) == (1, "info")


def test_equal_pictures_of_two_datasets_are_named(face_table):
    table = face_table(2)
    assert same_pictures(table) == double_blocks(table) == photos_of_both_genders(table) == []
    (finding,) = same_pictures(replace(table, dataset="clap2016"))
    assert finding.examples == ("appa_real",)
    assert KINDS[finding.kind].remedy == "do not train on one and test on the other"
