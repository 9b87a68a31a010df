"""Predict any number of images, part by part; threads read ahead of the network, in constant memory."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import UnreadableImageError
from mtmsa_lightning._utils.progress import Advance
from mtmsa_lightning.align.crop_files import NO_FACE
from mtmsa_lightning.evaluation.prediction_columns import prediction_columns, to_arrays
from mtmsa_lightning.inference.annotated_images import annotate, picture_file
from mtmsa_lightning.inference.estimator import AgeEstimator, results_ahead
from mtmsa_lightning.inference.face import BOX, FaceCrop
from mtmsa_lightning.inference.inputs import Input, Inputs
from mtmsa_lightning.inference.prediction_parts import Parts, Skipped

_CHUNK = 8  # images per task of a thread


@dataclass(frozen=True)
class Job:
    """The work of one or several processes.

    Attributes:
        inputs: All inputs.
        parts: The parts to write.
        detect: Detect faces in photos; False takes each photo as one cropped face.
        annotate: Folder of the annotated photos; None for none.
        workers: Threads per process that read images and detect faces.
    """

    inputs: Inputs
    parts: Parts
    detect: bool
    annotate: Path | None
    workers: int


def load_estimator(ckpt_path: str | Sequence[str], flip_test: bool, **arguments: Any) -> AgeEstimator:
    """Load a network, or several as one; ``flip_test`` averages over mirror images in any case."""
    estimator = AgeEstimator.from_pretrained(ckpt_path, **arguments)
    estimator.model.flip_test |= flip_test
    return estimator


def predict_parts(estimator: AgeEstimator, job: Job, numbers: Sequence[int], advance: Advance) -> None:
    """Predict some parts of the inputs and write them; call ``advance`` with the number of images done."""
    read = partial(_load, estimator, job.detect)
    ahead = 2 * estimator.batch_size // _CHUNK + 2 * job.workers  # two batches, at one face per photo
    chunks = (chunk for number in numbers for chunk in _chunks(job.parts.positions(number)))
    inputs = ([job.inputs[at] for at in chunk] for chunk in chunks)
    with ThreadPoolExecutor(job.workers, thread_name_prefix="images") as pool:
        loaded = results_ahead(pool, read, inputs, ahead)
        for number in numbers:
            part, added = _Part(estimator), 0
            for images in islice(loaded, len(_chunks(job.parts.positions(number)))):
                advance(added)
                for image in images:
                    part.add(image)
                added = len(images)
            faces = part.finish()
            advance(added)  # the last ones, after the network
            if job.annotate is not None:
                _annotate(pool, job, number, faces)
            job.parts.write(number, faces, part.skipped)


class _Loaded(NamedTuple):
    """The cropped faces of an image, or the reason why there are none."""

    input: Input
    crops: list[FaceCrop]
    error: str


def _load(estimator: AgeEstimator, detect: bool, inputs: Sequence[Input]) -> list[_Loaded]:
    """Read images and crop their faces, in any thread."""
    return [_load_one(estimator, detect, each) for each in inputs]


def _load_one(estimator: AgeEstimator, detect: bool, each: Input) -> _Loaded:
    try:
        if each.known is None:
            crops = estimator.crops(each.file, detect)
        else:
            whole = estimator.crops(each.read(), detect=False)[0]
            box = tuple(each.known.box.tolist())
            crops = [whole._replace(box=box, score=each.known.score)]
    except UnreadableImageError as error:
        return _Loaded(each, [], str(error).removeprefix(f"{each.file}: "))
    return _Loaded(each, crops, "" if crops else NO_FACE)


class _Part:
    """Collect the faces of a part and predict them in full batches, except for the last one."""

    def __init__(self, estimator: AgeEstimator) -> None:
        self.estimator = estimator
        self.skipped: Skipped = []
        self._rows: list[tuple[Any, ...]] = []
        self._waiting: list[FaceCrop] = []
        self._columns: list[dict[str, NDArray[Any]]] = []

    def add(self, image: _Loaded) -> None:
        """Add an image."""
        if image.error:
            self.skipped.append((image.input.file, image.error))
        name = image.input.known.id if image.input.known else image.input.file
        for number, crop in enumerate(image.crops):
            score = np.nan if crop.score is None else crop.score
            self._rows.append((name, image.input.file, number, *crop.box, score, crop.turned))
            self._waiting.append(crop)
            if len(self._waiting) == self.estimator.batch_size:
                self._predict()

    def finish(self) -> pd.DataFrame:
        """Return one row per face."""
        if self._waiting:
            self._predict()
        rows = pd.DataFrame(self._rows, columns=["id", "file", "face", *BOX, "score", "turned"])
        names = self._columns[0] if self._columns else ()
        columns = {name: np.concatenate([part[name] for part in self._columns]) for name in names}
        return _with_labels(rows.assign(**columns), self.estimator.model.trained_classes)

    def _predict(self) -> None:
        output = self.estimator.output(self._waiting)
        columns = prediction_columns(self.estimator.model, output)
        of_parts = [name for name in columns if re.match(r"age(\d|_mixture)", name)]  # of an ensemble
        kept = {name: values for name, values in columns.items() if name not in of_parts}
        self._columns.append(to_arrays([kept]))
        self._waiting = []


def _with_labels(faces: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Insert the most probable ``gender`` and ``race`` before their probabilities."""
    for task, names in classes.items() if len(faces) else ():
        columns = [f"{task}_{name}" for name in names]
        best = np.asarray(names)[faces[columns].to_numpy().argmax(axis=1)]
        faces.insert(int(faces.columns.get_loc(columns[0])), task, best)  # type: ignore[arg-type]
    return faces


def _annotate(pool: ThreadPoolExecutor, job: Job, number: int, faces: pd.DataFrame) -> None:
    """Draw the faces of a part onto copies of its images, which are read again to save memory."""
    assert job.annotate is not None
    rows = dict(iter(faces.groupby("file", sort=False)))
    shown = [position for position in job.parts.positions(number) if job.inputs[position].file in rows]
    images = [job.inputs[position] for position in shown]
    files = [
        picture_file(job.annotate, position, image) for position, image in zip(shown, images, strict=True)
    ]
    list(pool.map(annotate, images, [rows[image.file] for image in images], files))


def _chunks(positions: range) -> list[range]:
    return [positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK)]
