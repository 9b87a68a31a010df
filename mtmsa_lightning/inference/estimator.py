"""``AgeEstimator``: photos in, ages out."""

import copy
import logging
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Self, overload

import numpy as np
import torch
from torch import Tensor

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.devices import check_device, choose_accelerator
from mtmsa_lightning._utils.images import MAX_PIXELS, UnreadableImageError
from mtmsa_lightning._utils.writing import write_text
from mtmsa_lightning.align.detector import FaceDetector, load_detector
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.evaluation.attention import dilation_rates
from mtmsa_lightning.inference.cropping import Cropper, Preprocessing
from mtmsa_lightning.inference.faces import Age, ClassPrediction, Face, FaceAttention, FaceCrop, PhotoFaces
from mtmsa_lightning.inference.photos import PhotoInput, read_photo
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.module import MTMSA, FaceOutput
from mtmsa_lightning.runs.checkpoints import find_checkpoint
from mtmsa_lightning.runs.hub import local_path, upload
from mtmsa_lightning.runs.pretrained import README, identity, write_pretrained

log = logging.getLogger(__name__)

PRECISIONS: dict[str, torch.dtype | None] = {
    "32-true": None, "64-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16,
}  # fmt: skip
"""Lightning's names of precisions, with the type of autocast, if any."""

_MOST_READERS = 8


class AgeEstimator:
    """Says the age, with its uncertainty, and the gender and race of the faces in photos.

    The checkpoint decides how photos are treated: where its training faces were found by ``mtmsa prepare``,
    faces are found and aligned alike; else a photo is taken for one cropped face. All methods may be called
    from several threads at once.

    >>> model = AgeEstimator.from_pretrained("runs/morph/2026.../checkpoints/best.ckpt")  # doctest: +SKIP
    >>> faces = model("photo.jpg")  # doctest: +SKIP
    >>> faces[0].age.mean, faces[0].age.interval(0.9), faces[0].gender.name  # doctest: +SKIP

    Args:
        model: The network; it is moved to the device and put into evaluation mode.
        device: Where to compute, such as ``cpu`` or ``cuda:1``; ``auto`` takes a GPU that CUDA can use.
        batch_size: Faces that go through the network at once.
        detector: Finds faces; by default that of the extra ``align``, loaded when it is first needed.
        max_pixels: Photos with more pixels are refused before they are decoded.
        precision: A key of :data:`PRECISIONS`.

    Raises:
        ConfigError: The precision is unknown, or the device is not there.

    Attributes:
        model: The network.
        preprocessing: How faces reach it.
    """

    def __init__(
        self,
        model: MTMSA,
        device: str | torch.device = "auto",
        batch_size: int = 64,
        detector: FaceDetector | None = None,
        max_pixels: int = MAX_PIXELS,
        precision: str = "32-true",
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
        model = model.double() if precision == "64-true" else model
        self.model = model.to(_usable(device)).eval()
        self.precision = precision
        self.batch_size = batch_size
        self.max_pixels = max_pixels
        self.preprocessing = Preprocessing.of_checkpoint(model.image_size, model.crop, model.provenance)
        self._cropper = Cropper(self.preprocessing)
        self._head = copy.deepcopy(model.age).cpu() if model.age is not None else None  # speaks float64
        self._file: Path | None = None  # that it was loaded from
        self._detector = detector
        self._loading = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        allow_classes: Sequence[str] = (),
        **arguments: Any,
    ) -> Self:
        """Load a trained network, without running code from its files.

        Args:
            source: A checkpoint ``.ckpt``, a run directory or a folder of runs, a folder written by
                :meth:`save_pretrained`, or the name ``owner/name`` of one on the Hugging Face Hub.
            revision: Branch, tag or commit on the Hub.
            allow_classes: See :meth:`MTMSA.load <mtmsa_lightning.module.MTMSA.load>`.
            arguments: As for the class: ``device``, ``batch_size`` and so on.

        Raises:
            CheckpointError: If there is no such file, it is damaged or not of this package, or the Hub does
                not give it.
            ConfigError: If it is of the Hub and the extra ``hub`` is not installed.
        """
        path = local_path(source, revision)
        estimator = cls(MTMSA.load(str(path), allow_classes), **arguments)
        estimator._file = find_checkpoint(path).absolute()
        return estimator

    # ---------------------------------------------------------------- photos

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a text is a sequence of texts
        self, photos: PhotoInput, detect: bool | None = None
    ) -> list[Face]: ...

    @overload
    def __call__(self, photos: Sequence[PhotoInput], detect: bool | None = None) -> list[list[Face]]: ...

    def __call__(
        self, photos: PhotoInput | Sequence[PhotoInput], detect: bool | None = None
    ) -> list[Face] | list[list[Face]]:
        """Say what is known of the faces in a photo, or in each of several.

        Args:
            photos: A photo, see :data:`~mtmsa_lightning.inference.photos.PhotoInput`, or a list of photos.
            detect: Look for faces (True), or take each photo for one cropped face (False); by default as the
                checkpoint's training faces were treated, see :meth:`describe`.

        Returns:
            The faces, the largest first, none where none is found; for several photos one such list each.

        Raises:
            UnreadableImageError: A photo cannot be read; :meth:`stream` goes on.
            ConfigError: Faces are looked for, and the extra ``align`` is not installed.
        """
        several: Any = photos if isinstance(photos, list | tuple) else [photos]
        answers = list(self.stream(several, detect))
        for number, answer in enumerate(answers, start=1):
            if answer.fault:
                place = f"photo {number} of {len(answers)}: " if several is photos else ""
                raise UnreadableImageError(place + answer.fault)
        return [answer.faces for answer in answers] if several is photos else answers[0].faces

    def stream(self, photos: Iterable[PhotoInput], detect: bool | None = None) -> Iterator[PhotoFaces]:
        """Go through any number of photos, and yield what is said of each, in their order.

        Photos are read, and faces found, in threads that run ahead; the network gets full batches of faces of
        several photos. Memory does not grow with the number of photos.

        Args:
            photos: Photos; taken from the iterable as they are needed.
            detect: As for a call.

        Yields:
            The faces of a photo; one that cannot be read has a ``fault`` and no faces.

        Raises:
            ConfigError: Faces are looked for, and the extra ``align`` is not installed.
        """
        detector = self._load_detector() if self._looks(detect) else None
        crops: list[FaceCrop] = []  # that the network has not seen yet
        faces: deque[Face] = deque()
        waiting: deque[_Cut] = deque()
        for photo in self._crops_ahead(photos, detector):
            crops += photo.crops
            waiting.append(photo)
            while len(crops) >= self.batch_size or (crops and len(waiting) > self.batch_size):
                faces.extend(self._faces(crops[: self.batch_size]))
                del crops[: self.batch_size]
            yield from _answered(waiting, faces)
        faces.extend(self.predict(crops))
        yield from _answered(waiting, faces)

    def describe(self, detect: bool | None = None) -> str:
        """Say what the network was trained on and what is done with a photo, see :meth:`__call__`."""
        return f"{self.model.describe()}; {self.preprocessing.describe(detect)}"

    def __repr__(self) -> str:
        model = self.model
        classes = [f"{task} {', '.join(names)}" for task, names in model.trained_classes.items()]
        says = ["age", *classes] if model.age is not None else classes
        known = [
            f"trained on {self.preprocessing.dataset or 'unknown faces'}",
            f"{model.image_size} px",
            *says,
        ]
        calibrated = "not calibrated" if model.calibration is None else "calibrated"
        return f"AgeEstimator({'; '.join([*known, calibrated, str(model.device)])})"

    def _looks(self, detect: bool | None) -> bool:
        return self.preprocessing.detects if detect is None else detect

    def _load_detector(self) -> FaceDetector:
        with self._loading:
            if self._detector is None:
                self._detector = load_detector()
            return self._detector

    def _crops_ahead(self, photos: Iterable[PhotoInput], detector: FaceDetector | None) -> Iterator["_Cut"]:
        """Yield the crops of each photo, or why it cannot be read, a few photos ahead in threads."""
        readers = min(_MOST_READERS, available_cores())
        ahead: deque[Future[_Cut]] = deque()
        with ThreadPoolExecutor(readers, thread_name_prefix="photos") as pool:
            for photo in photos:
                ahead.append(pool.submit(self._crops, photo, detector))
                if len(ahead) >= 2 * readers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _crops(self, photo: PhotoInput, detector: FaceDetector | None) -> "_Cut":
        path = Path(photo) if isinstance(photo, str | Path) else None
        try:
            return _Cut(self._cut(photo, detector), "", path)
        except UnreadableImageError as error:
            return _Cut([], str(error), path)

    def crops(self, photo: PhotoInput, detect: bool | None = None) -> list[FaceCrop]:
        """Cut the faces out of one photo, for :meth:`predict`; arguments and errors as for a call."""
        return self._cut(photo, self._load_detector() if self._looks(detect) else None)

    def _cut(self, photo: PhotoInput, detector: FaceDetector | None) -> list[FaceCrop]:
        image = read_photo(photo, self.max_pixels)
        return [self._cropper.whole(image)] if detector is None else self._cropper.detected(image, detector)

    # ---------------------------------------------------------------- the network

    def predict(self, crops: Sequence[FaceCrop]) -> list[Face]:
        """Say what is known of faces that are cropped already, in batches."""
        batches = [crops[start : start + self.batch_size] for start in range(0, len(crops), self.batch_size)]
        return [face for batch in batches for face in self._faces(batch)]

    @torch.inference_mode()
    def output(self, crops: Sequence[FaceCrop]) -> FaceOutput:
        """Return what the network, calibrated, says of one batch of cropped faces, on the CPU.

        Raises:
            CheckpointError: If an answer is not finite.
        """
        with self._autocast():
            said = self.model(self._images(crops))
        raw, gender, race = (
            None if each is None else each.cpu() for each in (said.age_raw, said.gender, said.race)
        )
        self._check_finite({"age": raw, "gender": gender, "race": race})
        age = None if self._head is None or raw is None else self._head.distribution(raw)
        return self.model.calibrated(FaceOutput(age, gender, race))

    def _check_finite(self, said: Mapping[str, Tensor | None]) -> None:
        """Refuse answers that are no numbers, rather than to hand them on as blank ages."""
        broken = [task for task, each in said.items() if each is not None and not each.isfinite().all()]
        if broken:
            advice = "" if PRECISIONS[self.precision] is None else "; use the precision 32-true"
            raise CheckpointError(
                f"{self._file or 'the network'}: its answers ({', '.join(broken)}) are NaN or infinite in "
                f"precision {self.precision}, though its weights are numbers: they overflow{advice}"
            )

    def _autocast(self) -> AbstractContextManager[Any]:
        mixed = PRECISIONS[self.precision]
        return nullcontext() if mixed is None else torch.autocast(self.model.device.type, mixed)

    def _faces(self, crops: Sequence[FaceCrop]) -> list[Face]:
        said = self.output(crops)
        ages = self._ages(said, len(crops))
        classes = {
            task: _class_predictions(getattr(said, task), n) for task, n in self.model.trained_classes.items()
        }
        nothing: list[None] = [None] * len(crops)
        genders, races = (classes.get(task, nothing) for task in ("gender", "race"))
        rows = zip(crops, ages, genders, races, self._unsure(said, len(crops)), strict=True)
        return [Face(*row) for row in rows]

    def _images(self, crops: Sequence[FaceCrop]) -> Tensor:
        images = torch.from_numpy(np.stack([crop.image for crop in crops]))
        return images.to(self.model.device).permute(0, 3, 1, 2)

    def _ages(self, said: FaceOutput, faces: int) -> Sequence[Age | None]:
        if said.age is None:
            return [None] * faces
        groups = self.model.age_groups
        cells = said.age.group_probs(AGE_GROUP_EDGES).tolist() if groups else [[]] * faces
        return [
            Age(said.age[row : row + 1], dict(zip(groups, cells[row], strict=True))) for row in range(faces)
        ]

    def _unsure(self, said: FaceOutput, faces: int) -> Sequence[bool | None]:
        calibration = self.model.calibration
        if said.age is None or calibration is None or not calibration.abstains:
            return [None] * faces
        unsure: list[bool] = calibration.unsure(said.age).tolist()
        return unsure

    @torch.inference_mode()
    def attention(self, faces: Sequence[Face]) -> list[FaceAttention]:
        """Look at what the multi-scale attention modules do on faces.

        Returns:
            One for each face, without stages where the network has no attention modules.
        """
        if not faces:
            return []
        images = self._images([face.crop for face in faces])
        attended = self.model.trunk.attention(self.model.normalise(images))
        maps = {stage: each.spatial_map.float().cpu().numpy() for stage, each in attended.items()}
        shares = {stage: each.scale_weights.double().mean(2).tolist() for stage, each in attended.items()}
        rates = {stage: dilation_rates(self.model, stage) for stage in attended}
        return [
            FaceAttention(
                {stage: maps[stage][row] for stage in maps},
                {stage: list(zip(rates[stage], shares[stage][row], strict=True)) for stage in maps},
            )
            for row in range(len(faces))
        ]

    # ---------------------------------------------------------------- files

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (``model.safetensors``) and all else that is known (``config.json``) to a folder.

        :meth:`from_pretrained`, ``--ckpt_path`` of every verb and ``mtmsa fit --model.weights`` take it. What
        is loaded equals what was saved, bit by bit, with classes, calibration and the record of training.
        The model card (``README.md``) says what the run that the network was loaded from recorded; a network
        that came from such a folder, and was not changed, keeps the card of that folder.

        Args:
            folder: Where to; files of these names are replaced.

        Raises:
            DataError: If nothing can be written there.
        """
        from mtmsa_lightning.reports.card import card_of_network  # late: it reads tables

        provenance, calibration = self.model.provenance, self.model.calibration
        checkpoint = {
            "hyper_parameters": dict(self.model.hparams),
            "state_dict": self.model.state_dict(),
            "provenance": provenance,
            "calibration": None if calibration is None else calibration.to_dict(),
        }
        target, source = Path(folder).absolute(), self._file.parent if self._file else None
        before = identity(source) if source else None
        kept = _text(source / README) if source and before else ""
        card = card_of_network(checkpoint, target.name, self._file)
        write_pretrained(checkpoint, target)
        write_text(target / README, kept if kept and before == identity(target) else card)

    def push_to_hub(self, repo_id: str, *, private: bool = True, card: str | None = None) -> str:
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub.

        Args:
            repo_id: ``owner/name``; it is made if it is not there.
            private: Whether a new repository is private; look at the terms of the training data before you
                publish weights.
            card: Text of the model card, ``README.md``; by default the one of :meth:`save_pretrained`. The
                repository's own is replaced.

        Returns:
            The address of the commit.

        Raises:
            ConfigError: If the extra ``hub`` is not installed.
            CheckpointError: If the Hub refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / repo_id.rpartition("/")[2]
            self.save_pretrained(folder)
            if card is not None:
                write_text(folder / README, card)
            return upload(folder, repo_id, private)


def _usable(device: str | torch.device) -> torch.device:
    """Return a device on which something can be put, or raise ConfigError."""
    try:
        usable = torch.device(choose_accelerator(device))
        check_device(usable)
        torch.empty(1, device=usable)
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA asserts that it has it
        raise ConfigError(
            f"device {str(device)!r} cannot be used here ({str(error).splitlines()[0]}): give cpu, auto, or "
            "a GPU of this machine such as cuda:0"
        ) from error
    return usable


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


class _Cut(NamedTuple):
    """A photo's faces, ready for the network; or why there are none."""

    crops: list[FaceCrop]
    fault: str
    path: Path | None


def _answered(waiting: deque[_Cut], faces: deque[Face]) -> Iterator[PhotoFaces]:
    """Yield the photos, of those that wait, whose faces are all there."""
    while waiting and len(waiting[0].crops) <= len(faces):
        crops, fault, path = waiting.popleft()
        yield PhotoFaces([faces.popleft() for _ in crops], fault, path)


def _class_predictions(logits: Tensor, names: Sequence[str]) -> list[ClassPrediction]:
    return [
        ClassPrediction(dict(zip(names, row, strict=True))) for row in logits.double().softmax(1).tolist()
    ]
