import shlex
from pathlib import Path

import pytest
import yaml

from mtmsa_lightning.data.tables.columns import choose_columns
from mtmsa_lightning.errors import DataError

PATH = Path("t.csv")
BOX = ("box_left", "box_top", "box_right", "box_bottom")
SIZES = ("box_left", "box_top", "box_width", "box_height")


def chosen(header, given=None):
    return choose_columns(header.split(","), given or {}, PATH)[0]


@pytest.mark.parametrize(
    ("header", "given", "names"),
    [
        ("path,age", None, {"path": "path", "age": "age"}),
        ("File,Years", None, {"path": "File", "age": "Years"}),
        ("Image Path,AGE,Sex,Ethnic-Group", None,
         {"path": "Image Path", "age": "AGE", "gender": "Sex", "race": "Ethnic-Group"}),
        ("img,age,gender,sex", None, {"path": "img", "age": "age", "gender": "gender"}),
        ("path,age,years", None, {"path": "path", "age": "age"}),
        ("path,age,age_low,age_high", None, {"path": "path", "age_low": "age_low", "age_high": "age_high"}),
        ("path,min_age,max_age", None, {"path": "path", "age_low": "min_age", "age_high": "max_age"}),
        ("path,dob,photo_taken", None, {"path": "path", "birth_date": "dob", "photo_date": "photo_taken"}),
        ("path,dob,doa,age", None, {"path": "path", "age": "age"}),
        ("path,dob,doa,years", None, {"path": "path", "age": "years"}),
        ("path,age,identity,id", None, {"path": "path", "age": "age", "subject": "identity"}),
        ("path,age,id", None, {"path": "path", "age": "age", "subject": "id"}),
        ("path,age,set", {"split": None}, {"path": "path", "age": "age"}),
        ("path,age,years", {"age": "Years"}, {"path": "path", "age": "Years"}),
        ("file,service_test,age,race", None, {"path": "file", "age": "age", "race": "race"}),
    ],
)  # fmt: skip
def test_columns_are_found_by_given_own_or_usual_names(header, given, names):
    assert chosen(header, given) == names


@pytest.mark.parametrize(
    ("edges", "ours"),
    [
        ("x_min,y_min,x_max,y_max", BOX), ("x1,y1,x2,y2", BOX), ("Left,Top,Right,Bottom", BOX),
        ("face_x0,face_y0,face_x1,face_y1,person_x0,person_y0,person_x1,person_y1", BOX),
        ("x,y,width,height", SIZES), ("x,y,w,h", SIZES), ("left,top,width,height", SIZES),
        ("box_left,box_top,box_right,box_bottom", BOX), ("bbox_x,bbox_y,bbox_w,bbox_h", SIZES),
    ],
)  # fmt: skip
def test_boxes_are_found_by_usual_names(edges, ours):
    names = chosen(f"path,age,{edges}")
    assert dict(zip(ours, edges.split(","), strict=False)) == {
        name: names[name] for name in names if name.startswith("box_")
    }


def test_part_of_a_box_is_none():
    assert not [name for name in chosen("path,age,width,height,x1,y1,left") if name.startswith("box_")]
    assert chosen("path,age,x,y,w,h", {"box_left": None}) == {"path": "path", "age": "age"}


@pytest.mark.parametrize(
    ("header", "both", "name"),
    [
        ("file,image,age", "both 'file' and 'image' may hold path", "path"),
        ("path,real_age,apparent_age", "both 'real_age' and 'apparent_age' may hold age", "age"),
        ("path,age,sex,genders", "both 'sex' and 'genders' may hold gender", "gender"),
        ("path,years,min_age,max_age", "both 'min_age' and 'years' may hold the age", "age"),
    ],
)
def test_two_candidates_are_an_error_that_shows_the_choice(header, both, name):
    with pytest.raises(DataError, match=f"^t.csv: {both}: choose one") as caught:
        chosen(header)
    typed = yaml.safe_load(shlex.split(str(caught.value).split("--data.columns ")[1])[0])
    assert name in chosen(header, typed)


def test_two_boxes_are_an_error():
    with pytest.raises(DataError, match=r"both \['x', 'y', 'width', 'height'\] and \['x', 'y', 'w', 'h'\]"):
        chosen("path,age,x,y,w,h,width,height")


def test_a_birth_date_without_a_photo_date_is_named():
    with pytest.raises(DataError, match=r"no column 'photo_date'; .*--data.columns '{photo_date: doa}'"):
        chosen("path,dob")
    with pytest.raises(DataError, match=r"no column 'age' \(nor"):
        chosen("path,taken")
