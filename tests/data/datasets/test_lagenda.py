import cv2
import numpy as np
import pytest

from mtmsa_lightning import LAGENDADataset
from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.audit.images import scan_images
from mtmsa_lightning.data.datasets.lagenda import LAGENDA, read_lagenda
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.errors import DataError

HEADER = "img_name,age,gender,face_x0,face_y0,face_x1,face_y1,person_x0,person_y0,person_x1,person_y1"
ROWS = [
    "a.jpg,34,F,10,10,30,30,0,0,40,90",
    "a.jpg,0,M,60,20,80,40,50,0,90,90",  # another face of the scene
    "b.jpg,-1,-1,10,10,30,30,0,0,40,90",  # no label
    "b.jpg,51,-1,-4,10,16,30,0,0,40,90",  # a box that leaves the image
    "b.jpg,-1,M,10,10,30,30,-1,-1,-1,-1",
    "b.jpg,40,M,-1,-1,-1,-1,0,0,40,90",  # no face box
    "b.jpg,41,M,30,10,30,30,0,0,40,90",  # an empty box
    "c.jpg,41,M,30,10,50,30,0,0,40,90",  # no file
]


@pytest.fixture
def release(tmp_path):
    root = tmp_path / "release"
    (root / "images").mkdir(parents=True)
    (root / "lagenda_annotation.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    for seed, name in enumerate("ab"):
        image = np.random.default_rng(seed).integers(0, 256, (100, 120, 3)).astype(np.uint8)
        cv2.imwrite(str(root / f"images/{name}.jpg"), image)
    return root


def test_each_labelled_face_with_a_box_is_a_row(release):
    table = read_lagenda(release, box_margin=0)
    frame = table.frame
    assert frame["id"].tolist() == ["lagenda/a.jpg", "lagenda/a.jpg#2", "lagenda/b.jpg", "lagenda/b.jpg#2"]
    assert frame["path"].tolist() == ["images/a.jpg"] * 2 + ["images/b.jpg"] * 2
    assert frame["age_low"].fillna(-1).tolist() == [34, 0, 51, -1]
    assert frame["gender"].tolist() == [1, 0, -1, 0]
    assert frame[[*BOX]].to_numpy().tolist() == [
        [10, 10, 30, 30, 0], [60, 20, 80, 40, 0], [-4, 10, 16, 30, 0], [10, 10, 30, 30, 0],
    ]  # fmt: skip
    assert table.report.reasons() == {"face box is missing or empty": 2, "file not found": 1, "no label": 1}
    assert (table.report.read, table.report.kept) == (8, 4)


def test_a_number_is_no_gender(release):
    path = release / "lagenda_annotation.csv"
    path.write_text(path.read_text().replace(",F,", ",1,"))
    with pytest.raises(DataError, match="gender '1' is not one of m, f"):
        read_lagenda(release)


def test_samples_are_the_boxes_with_their_margin(release):
    image = cv2.cvtColor(cv2.imread(str(release / "images/a.jpg")), cv2.COLOR_BGR2RGB)
    tight = LAGENDADataset(release, "test", image_size=64, box_margin=0)
    assert tight.protocol == "whole"
    wide = LAGENDADataset(release, "test", image_size=64)  # a margin of 0.2: 4 of 20 pixels
    for faces, edges in ((tight, slice(10, 30)), (wide, slice(6, 34))):
        expected = cv2.resize(image[edges, edges], (64, 64), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(faces[0]["image"].permute(1, 2, 0).numpy(), expected)


def test_faces_of_one_scene_are_not_copies(release):
    contents = scan_images(read_lagenda(release), 1).facts["content"]
    assert contents.nunique() == len(contents) == 4


def test_a_prepared_set_is_cropped_from_the_boxes(release, tmp_path):
    prepared = tmp_path / "prepared"
    main(["prepare", "--root", str(release), "--out", str(prepared), "--size", "64", "--detect", "false",
          "--num_workers", "1", "--data.box_margin", "0.25"])  # fmt: skip
    data = LAGENDA(root=str(prepared))
    assert not set(BOX) & set(data.table.frame)
    image = cv2.cvtColor(cv2.imread(str(release / "images/a.jpg")), cv2.COLOR_BGR2RGB)
    crop = cv2.cvtColor(cv2.imread(str(prepared / data.table.frame["path"][1])), cv2.COLOR_BGR2RGB)
    box = image[9:51, 49:91]  # 60 to 80 and 20 to 40; 5 pixels added, then a fifth of 30
    expected = cv2.resize(box, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(crop.astype(int) - expected).mean() < 12  # a JPEG file of noise


def test_release(check_release, release):
    check_release("lagenda", release, compared=1)


def test_faces_of_one_scene_stay_in_one_part(release):
    rows = [f"{name}.jpg,{20 + face},F,10,10,30,30,0,0,40,90" for name in "abcdefghij" for face in range(3)]
    (release / "lagenda_annotation.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    for name in "cdefghij":
        (release / f"images/{name}.jpg").write_bytes((release / "images/a.jpg").read_bytes())
    table = read_lagenda(release)
    for fold in range(5):
        split = make_split(table, "random", fold)
        parts = [set(table.frame["path"].iloc[rows]) for rows in (split.train, split.val, split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10
