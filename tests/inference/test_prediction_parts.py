"""Parts written, found again, joined and merged; tables are compared with what pandas makes of all rows."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.inference.prediction_parts import (
    Counts,
    Parts,
    clear,
    complete,
    join,
    merge,
    refuse_to_lose,
)

IMAGES, PART_SIZE = 23, 5
SUFFIXES = [".csv", ".parquet", ".jsonl"]


def plan(shard: list[int] | None = None, **other: object) -> dict:
    inputs = {"images": IMAGES, "fingerprint": "abc"}
    return {"format_version": 1, "model": "m", "options": {"detect": True}, "inputs": inputs,
            "part_size": PART_SIZE, "shard": shard, "command": "mtmsa predict ..."} | other  # fmt: skip


def face_rows(number: int) -> pd.DataFrame:
    """Zero to two faces for each image of a part; the second part shows none at all."""
    images = range(number * PART_SIZE, min((number + 1) * PART_SIZE, IMAGES))
    rows = [(f"{image}, \u00e4.jpg", face) for image in images for face in range(image % 3 * (number != 1))]
    frame = pd.DataFrame(rows, columns=["file", "face"])
    if frame.empty:
        return frame
    rng = np.random.default_rng(number)
    values = rng.normal(size=(len(frame), 2)) * [1, 1e-30]
    return frame.assign(age=values[:, 0], tiny=values[:, 1], high=np.inf, box=np.nan, unsure=values[:, 0] > 0)


def skipped(number: int) -> list[tuple[str, str]]:
    reasons = ["no face found", 'cannot be read: a\nb, "c"']
    images = range(number * PART_SIZE, min((number + 1) * PART_SIZE, IMAGES))
    return [(f"{image}.jpg", reasons[image % 2]) for image in images if image % 3 == 0 or number == 1]


def write(folder, shard=None, numbers=None, **other) -> Parts:
    folder.mkdir(exist_ok=True)
    parts = Parts(folder, plan(shard, **other))
    parts.claim(overwrite=False)
    for number in parts.numbers if numbers is None else numbers:
        parts.write(number, face_rows(number), skipped(number))
    return parts


def joined(parts: Parts, out) -> Counts:
    return join(parts.plan, [parts.file(number) for number in parts.numbers], out)


def contents(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parts_join_to_the_table_of_all_rows(tmp_path, suffix):
    parts = write(tmp_path / "parts")
    out = tmp_path / f"ages{suffix}"
    counts = joined(parts, out)
    rows = pd.concat([face_rows(number) for number in (0, 2, 3, 4)], ignore_index=True)
    reasons = [reason for number in range(5) for _, reason in skipped(number)]
    assert counts == Counts(
        len(rows), IMAGES, reasons.count("no face found"), len(reasons) - reasons.count("no face found")
    )
    if suffix == ".csv":
        assert out.read_text() == rows.to_csv(index=False)
        table = pd.read_csv(out)
    elif suffix == ".parquet":
        table = pd.read_parquet(out)
    else:
        lines = [json.loads(line, parse_constant=pytest.fail) for line in out.read_text().splitlines()]
        assert all(line["high"] is None for line in lines), "JSON knows no infinity"
        assert all(line.pop("not_finite") == {"high": "inf"} for line in lines)
        table = pd.DataFrame(lines).assign(high=math.inf).astype({"box": float})
    pd.testing.assert_frame_equal(table, rows, check_exact=True)
    listed = pd.read_csv(tmp_path / "ages.skipped.csv")
    assert listed.to_numpy().tolist() == [list(row) for number in range(5) for row in skipped(number)]
    record = json.loads((tmp_path / "ages.record.json").read_text())
    assert record == {**plan(), "counts": counts._asdict()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_not_one_face_makes_a_table_without_rows(tmp_path, suffix):
    parts = write(tmp_path / "parts", numbers=[])
    for number in parts.numbers:
        parts.write(number, pd.DataFrame(columns=["file", "face"]), [])
    assert joined(parts, tmp_path / f"ages{suffix}").faces == 0
    assert not (tmp_path / "ages.skipped.csv").exists()
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}.get(suffix)
    if read is not None:
        assert list(read(tmp_path / f"ages{suffix}")) == ["file", "face"]


def test_parts_that_are_missing_or_damaged_are_made_again(tmp_path):
    parts = write(tmp_path / "parts", numbers=[0, 2, 3])
    assert parts.missing() == [1, 4]
    cut = parts.file(2).read_bytes()[:-20]
    parts.file(2).write_bytes(cut)
    parts.file(3).write_bytes(b"")  # as after a power failure
    assert parts.missing() == [1, 2, 3, 4]


def test_a_part_damaged_inside_is_named_when_all_are_joined(tmp_path):
    parts = write(tmp_path / "parts")
    whole = bytearray(parts.file(2).read_bytes())
    whole[4:300] = bytes(296)
    parts.file(2).write_bytes(whole)
    assert parts.missing() == []
    with pytest.raises(DataError, match=r"(?s)0000002\.parquet: damaged .* delete it"):
        joined(parts, tmp_path / "ages.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["parts"], "nothing by half"


def test_only_the_same_plan_goes_on(tmp_path):
    parts = write(tmp_path / "parts", numbers=[0])
    (tmp_path / "parts" / ".0000001.parquet.77.mtmsa-partial").write_bytes(b"half")
    assert parts.begun
    write(tmp_path / "parts", numbers=[], command="another command, on another day")
    assert parts.missing() == [1, 2, 3, 4]
    assert not list(tmp_path.glob("parts/.*.mtmsa-partial")), "what a killed process left is removed"
    other = Parts(tmp_path / "parts", plan(options={"detect": False}))
    assert not other.begun
    with pytest.raises(
        DataError, match=r"parts: was begun with other options: options.detect was True, is False"
    ):
        other.claim(overwrite=False)
    other.claim(overwrite=True)
    assert other.missing() == [0, 1, 2, 3, 4]


def test_what_was_begun_without_a_part_holds_no_one_up(tmp_path):
    write(tmp_path / "parts", numbers=[])
    Parts(tmp_path / "parts", plan(model="other")).claim(overwrite=False)


def test_a_folder_with_anything_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="holds something else"):
            Parts(tmp_path, plan()).claim(overwrite)


def test_a_table_is_known_again_and_not_lost(tmp_path):
    parts, out = write(tmp_path / "parts"), tmp_path / "ages.csv"
    assert complete(out, plan()) is None
    refuse_to_lose(out, plan())
    counts = joined(parts, out)
    clear(parts.folder)
    assert complete(out, plan(command="another")) == counts
    assert complete(out, plan(model="other")) is None
    with pytest.raises(DataError, match=r"exists, made with other options: by another model"):
        refuse_to_lose(out, plan(model="other"))
    (tmp_path / "ages.record.json").unlink()
    with pytest.raises(DataError, match=r"ages\.csv: exists: choose another"):
        refuse_to_lose(out, plan())


@settings(max_examples=15)
@given(count=st.integers(1, 7), data=st.data(), suffix=st.sampled_from(SUFFIXES))
def test_shards_in_any_order_merge_to_the_bytes_of_one_piece(tmp_path_factory, count, data, suffix):
    folder = tmp_path_factory.mktemp("merge")
    joined(write(folder / "whole"), folder / f"ages{suffix}")
    clear(folder / "whole")
    order = data.draw(st.permutations(range(1, count + 1)))
    shards = [folder / f"shard {index}" for index in order]
    for index, shard in zip(order, shards, strict=True):
        write(shard, [index, count])
    before = [contents(shard) for shard in shards]
    (folder / "merged").mkdir()
    merge(shards, folder / "merged" / f"ages{suffix}")
    assert contents(folder / "merged") == contents(folder)
    assert [contents(shard) for shard in shards] == before


def test_shards_that_are_not_the_whole_are_refused(tmp_path):
    out = tmp_path / "ages.csv"
    one, two = (write(tmp_path / f"{index}", [index, 3]).folder for index in (1, 2))
    with pytest.raises(DataError, match=r"shards missing: 3/3: give each of 3 once"):
        merge([one, two], out)
    with pytest.raises(DataError, match=r"1: part 0 is also in .*1"):
        merge([one, two, one], out)
    three = write(tmp_path / "3", [3, 3], numbers=[]).folder
    with pytest.raises(DataError, match=r"3: 1 part is missing: complete that shard"):
        merge([one, two, three], out)
    other = write(tmp_path / "4", [3, 3], model="n").folder
    with pytest.raises(DataError, match=r"4 does not belong to .*1: by another model"):
        merge([one, two, other], out)
    with pytest.raises(
        DataError, match=r"nowhere: no such folder: `mtmsa predict --shard I/N --out .*nowhere"
    ):
        merge([one, tmp_path / "nowhere"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: has no plan\.json, so it is not a shard"):
        merge([one, tmp_path / "empty"], out)
    (tmp_path / "empty" / "plan.json").write_text("{")
    with pytest.raises(DataError, match=r"plan\.json: damaged: make this shard again"):
        merge([one, tmp_path / "empty"], out)
    assert not out.exists()


def test_a_merge_loses_no_other_table(tmp_path):
    shard = write(tmp_path / "1", [1, 1]).folder
    out = tmp_path / "ages.csv"
    out.write_text("mine")
    with pytest.raises(DataError, match="exists"):
        merge([shard], out)
    merge([shard], out, overwrite=True)
    merge([shard], out)
    assert out.read_text().startswith("file,face")
