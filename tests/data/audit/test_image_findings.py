from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.data.audit.images import faceless, scan_images, sharpness
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.release_files import content_column

FACE = SimpleNamespace(area=9.0, score=1.0, box=(0, 0, 3, 3), turned=0)


def at(table, root):
    return FaceTable(table.frame, root, *list(vars(table).values())[2:])


def test_a_scan_looks_at_every_file_once(face_table, tmp_path, draw):
    table = face_table(4)
    table.frame["path"] = ["a.png", "b.png", "a.png", "none.png"]
    for name, side in (("a.png", 80), ("b.png", 50)):
        cv2.imwrite(str(tmp_path / name), draw(side, side)[:, :40])
    advanced, looked = [], []
    scan = scan_images(
        at(table, tmp_path), 2, advanced.append, lambda image: looked.append(image.shape) or [FACE, FACE]
    )
    facts = scan.facts
    assert facts["width"].tolist() == [40, 40, 40, 0]
    assert facts["height"].tolist() == [80, 50, 80, 0]
    assert facts["faces"].tolist() == [2, 2, 2, -1]
    assert facts["content"].tolist() == content_column(tmp_path, table.frame["path"])
    assert scan.readable.tolist() == [True, True, True, False]
    assert "none.png" in facts["error"][3]
    assert (scan.hashes[0] == scan.hashes[2]).all()
    assert np.isnan(facts["sharpness"][3])
    assert sum(advanced) == 3
    assert len(looked) == 2


def test_sharpness_against_plain_numpy(draw):
    image = draw(0, 128)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = (
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * padded[1:-1, 1:-1]
    )
    assert sharpness(image) == pytest.approx(laplacian.var(), rel=1e-9)


def test_sharpness_falls_with_blur(draw):
    image = draw(0, 200)
    values = [sharpness(cv2.GaussianBlur(image, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert sharpness(np.full((50, 70, 3), 99, np.uint8)) == 0


@pytest.mark.parametrize(
    ("of_set", "of_scan", "expected"),
    [
        (None, [-1, -1, -1], []),
        ([1, 0, -1], [-1, -1, -1], [1]),  # the prepared set knows how many faces its source showed
        ([1, 0, 1], [0, 1, -1], [0]),  # what was looked for now counts
    ],
)
def test_faceless_images(face_table, tmp_path, of_set, of_scan, expected):
    table = face_table(3)
    if of_set:
        table.frame["faces_found"] = of_set
    scan = scan_images(at(table, tmp_path), 1)
    scan = scan._replace(facts=scan.facts.assign(faces=pd.Series(of_scan)))
    assert [row for finding in faceless(table, scan) for (row,) in finding.groups] == expected
