import json
import os
import time

import cv2
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtmsa_lightning.data.datasets.face_csv import FaceCSV, read_face_csv
from mtmsa_lightning.data.tables.parquet import image_column, read_texts
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.training.build_data import recognise

NAMES = {"age": ["0-2", "3-9", "more than 70"], "gender": ["Male", "Female"], "race": ["East Asian", "White"]}


def encoded(draw, seed, suffix=".jpg"):
    return cv2.imencode(suffix, draw(seed, 80))[1].tobytes()


@pytest.fixture
def hub(tmp_path, draw):
    """A dataset in the layout of the Hugging Face Hub: images as bytes, codes with recorded names."""
    (tmp_path / "data").mkdir()
    features = {name: {"names": names, "_type": "ClassLabel"} for name, names in NAMES.items()}
    features["image"] = {"_type": "Image"}
    seeds = iter(range(100))
    for file, rows in (
        ("train-00000-of-00002", 3),
        ("train-00001-of-00002", 2),
        ("validation-00000-of-00001", 2),
    ):
        images = [{"bytes": encoded(draw, next(seeds), (".jpg", ".png")[row % 2]), "path": None}
                  for row in range(rows)]  # fmt: skip
        codes = {"age": [0, 1, 2][:rows], "gender": [0, 1, None][:rows], "race": [1, 0, 1][:rows]}
        table = pa.table({"image": images, **codes, "service_test": [True] * rows})
        recorded = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        pq.write_table(table.replace_schema_metadata(recorded), tmp_path / "data" / f"{file}.parquet")
    return tmp_path


def test_a_dataset_of_the_hub_is_read_with_its_names_parts_and_images(hub, draw):
    assert recognise(hub) == "csv"
    data = FaceCSV(root=str(hub), protocol="predefined", num_workers=0, image_size=64)
    frame = data.table.frame
    assert data.race_classes == ("East Asian", "White")
    assert frame["split"].tolist() == ["train"] * 5 + ["val"] * 2
    assert frame[["age_low", "age_high"]].iloc[:3].to_numpy().tolist() == [[0, 2], [3, 9], [70, 100]]
    assert frame["gender"].tolist() == [0, 1, -1, 0, 1, 0, 1]
    assert frame["path"].tolist()[:2] == ["_.images/0000/0000001.jpg", "_.images/0000/0000002.png"]
    assert (hub / frame["path"].iloc[3]).read_bytes() == encoded(draw, 3)
    assert frame["content"].nunique() == len(data.table) == data.table.report.read == 7


def test_images_are_unpacked_once_and_again_after_a_change(hub):
    first = hub / read_face_csv(hub).frame["path"].iloc[0]
    before = first.stat().st_mtime_ns
    read_face_csv(hub)
    assert first.stat().st_mtime_ns == before
    (hub / "_.images" / "complete.json").unlink()  # as after a kill
    first.unlink()
    read_face_csv(hub)
    assert first.is_file()
    file = hub / "data" / "train-00000-of-00002.parquet"
    os.utime(file, (time.time() + 5, time.time() + 5))
    first.write_bytes(b"")
    read_face_csv(hub)
    assert first.stat().st_size > 0


def test_a_table_of_paths_numbers_and_missing_values(tmp_path, touch):
    touch(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    frame = pd.DataFrame(
        {"file": ["a.jpg", "b.jpg", "c.jpg"], "age": [25.0, None, 7.5], "sex": ["f", None, "m"]}
    )
    frame.to_parquet(tmp_path / "faces.parquet")
    table = read_face_csv(tmp_path).frame
    assert table["age_low"].fillna(-1).tolist() == [25, -1, 7]
    assert table["gender"].tolist() == [1, -1, 0]


def test_plain_bytes_are_images_too_and_missing_ones_are_dropped(tmp_path, draw):
    images = [encoded(draw, 0), None, encoded(draw, 1)]
    pq.write_table(pa.table({"picture": images, "age": [1, 2, 3]}), tmp_path / "t.parquet")
    assert image_column([tmp_path / "t.parquet"]) == "picture"
    report = (table := read_face_csv(tmp_path, "t.parquet")).report
    assert table.frame["age_low"].tolist() == [1, 3]
    assert [str(row) for row in report.dropped] == ["line 2: : no path"]


def test_codes_without_recorded_names_need_a_meaning(tmp_path, draw):
    pq.write_table(
        pa.table({"image": [encoded(draw, 0)], "age": [3], "gender": [1]}), tmp_path / "faces.parquet"
    )
    with pytest.raises(DataError, match="line 1: gender '1' is a code"):
        read_face_csv(tmp_path)
    assert read_face_csv(tmp_path, labels={"gender": {1: "male"}}).frame["gender"].tolist() == [0]


def test_files_that_differ_or_are_damaged_are_named(hub):
    file = hub / "data" / "train-00001-of-00002.parquet"
    pq.write_table(pa.table({"image": [b"x"]}), file)
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet: its columns differ"):
        read_face_csv(hub)
    file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet: cannot be read"):
        read_face_csv(hub)


def test_texts_are_those_of_a_csv(tmp_path):
    table = pa.table({"a": [1, None, -3], "b": [1.0, 2.5, float("nan")], "c": [True, None, False]})
    pq.write_table(table, tmp_path / "t.parquet")
    rows = read_texts([tmp_path / "t.parquet"], ["a", "b", "c"])
    assert rows.to_numpy().tolist() == [["1", "1", "True"], ["", "2.5", ""], ["-3", "", "False"]]
    assert rows.index.tolist() == [1, 2, 3]
