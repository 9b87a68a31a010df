"""``AgeEstimator``: predictions for photos."""

import copy
import logging
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.devices import usable_device
from mtmsa_lightning._utils.images import MAX_PIXELS, UnreadableImageError
from mtmsa_lightning.align.detector import FaceDetector, load_detector
from mtmsa_lightning.calibration.policy import DECISIONS
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.evaluation.attention import dilation_rates
from mtmsa_lightning.inference.cropping import Cropper, Preprocessing
from mtmsa_lightning.inference.face import Age, ClassPrediction, Face, FaceAttention, FaceCrop, PhotoFaces
from mtmsa_lightning.inference.photos import PhotoInput, load_photo
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.models.face_output import FaceOutput
from mtmsa_lightning.models.heads.age import AgeHead
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.checkpoints import find_checkpoint
from mtmsa_lightning.runs.ensemble import Ensemble, load_networks, members_of
from mtmsa_lightning.runs.hub import local_path, upload
from mtmsa_lightning.runs.pretrained import README, identity, write_pretrained
from mtmsa_lightning.settings.defaults import ORIENTATIONS, PREDICT_BATCH_SIZE, SMALLEST_FACE

log = logging.getLogger(__name__)

PRECISIONS: dict[str, torch.dtype | None] = {
    "32-true": None, "64-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16,
}  # fmt: skip
"""Lightning's names of precisions, with the type of autocast, if any."""

_MOST_READERS = 8

_T = TypeVar("_T")
_R = TypeVar("_R")


class AgeEstimator:
    """Predict age (with its uncertainty), gender and race of the faces in photos.

    If the training faces were detected by ``mtmsa prepare``, the faces of photos are detected and aligned in
    the same way; else a photo is used as one cropped face. All methods are thread-safe.

    >>> model = AgeEstimator.from_pretrained("runs/morph/2026.../checkpoints/best.ckpt")  # doctest: +SKIP
    >>> faces = model("photo.jpg")  # doctest: +SKIP
    >>> faces[0].age.mean, faces[0].age.interval(0.9), faces[0].gender.name  # doctest: +SKIP
    >>> model.table(["a.jpg", "b.jpg"])  # one row per face  # doctest: +SKIP

    Args:
        model: The network, or several as one; it is moved to the device and set to evaluation mode.
        device: A device such as ``cpu`` or ``cuda:1``; ``auto`` is a CUDA GPU if there is one.
        batch_size: Faces per batch.
        detector: Face detector; by default that of the extra ``align``, loaded when it is first needed.
        max_pixels: Larger photos are refused before they are decoded.
        precision: A key of :data:`PRECISIONS`.
        smallest_face: Shorter side in pixels of the smallest face that the default detector searches for.
        orientation: ``auto``: photos without a certain upright face are tried at four quarter turns, see
            :class:`~mtmsa_lightning.align.search.PhotoSearch`; ``upright``: they are upright.

    Raises:
        ConfigError: The precision, the orientation or the device does not exist.
    """

    def __init__(
        self,
        model: MTMSA | Ensemble,
        device: str | torch.device = "auto",
        batch_size: int = PREDICT_BATCH_SIZE,
        detector: FaceDetector | None = None,
        max_pixels: int = MAX_PIXELS,
        precision: str = "32-true",
        smallest_face: int = SMALLEST_FACE,
        orientation: str = ORIENTATIONS[0],
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        if orientation not in ORIENTATIONS:
            raise ConfigError(f"orientation {orientation!r} is not one of {', '.join(ORIENTATIONS)}")
        model = model.double() if precision == "64-true" else model
        self.model: Any = model.to(usable_device(device)).eval()
        self._networks: list[MTMSA] = members_of(model)
        self.precision = precision
        self.batch_size = batch_size
        self.max_pixels = max_pixels
        self.smallest_face = smallest_face
        self.orientation = orientation
        self.preprocessing = Preprocessing.of_checkpoint(model.image_size, model.crop, model.provenance)
        self._cropper = Cropper(self.preprocessing)
        heads = [network.age for network in self._networks]  # they compute in float64
        self._heads = [None if head is None else copy.deepcopy(head).cpu() for head in heads]
        self._file: Path | None = None  # the checkpoint
        self._detector = detector
        self._loading = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | Sequence[str | Path],
        *,
        revision: str | None = None,
        allow_classes: Sequence[str] = (),
        **arguments: Any,
    ) -> Self:
        """Load a trained network, without running code from its files.

        Args:
            source: A checkpoint ``.ckpt``, a run directory or a folder of runs, a folder written by
                :meth:`save_pretrained`, the name ``owner/name`` of one on the Hugging Face Hub, or
                ``starter``: the network that comes along. A list of several, such as folds or seeds, or the
                folder of an ensemble, is used as one mixture, see :class:`.ensemble.Ensemble`.
            revision: Branch, tag or commit on the Hub.
            allow_classes: See :meth:`MTMSA.load <mtmsa_lightning.module.MTMSA.load>`.
            arguments: As for the class: ``device``, ``batch_size`` and so on.

        Raises:
            CheckpointError: The file does not exist, is damaged or not of this package, or the Hub refuses.
            ConfigError: It is on the Hub and the extra ``hub`` is not installed.
        """
        sources = [source] if isinstance(source, str | Path) else [*source]
        if not sources:
            raise ConfigError("give at least one network")
        paths = [local_path(each, revision) for each in sources]
        load = partial(MTMSA.load, allow_classes=allow_classes)
        estimator = cls(load_networks([*map(str, paths)], load), **arguments)
        if not isinstance(estimator.model, Ensemble):
            estimator._file = find_checkpoint(paths[0]).absolute()
        return estimator

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of str
        self, photos: PhotoInput, detect: bool | None = None
    ) -> list[Face]: ...

    @overload
    def __call__(self, photos: Sequence[PhotoInput], detect: bool | None = None) -> list[list[Face]]: ...

    def __call__(
        self, photos: PhotoInput | Sequence[PhotoInput], detect: bool | None = None
    ) -> list[Face] | list[list[Face]]:
        """Predict the faces in a photo, or in each of several.

        Args:
            photos: A photo, see :data:`~mtmsa_lightning.inference.photos.PhotoInput`, or a list of photos.
            detect: Detect faces (True), or use each photo as one cropped face (False); by default as in
                training, see :meth:`describe`.

        Returns:
            The faces, the largest first; for several photos one list each.

        Raises:
            UnreadableImageError: A photo cannot be read; :meth:`stream` continues instead.
            ConfigError: Faces are to be detected and the extra ``align`` is not installed.
        """
        several: Any = photos if isinstance(photos, list | tuple) else [photos]
        found = list(self.stream(several, detect))
        for number, photo in enumerate(found, start=1):
            if photo.error:
                place = f"photo {number} of {len(found)}: " if several is photos else ""
                raise UnreadableImageError(place + photo.error)
        return [photo.faces for photo in found] if several is photos else found[0].faces

    def table(self, photos: PhotoInput | Sequence[PhotoInput], detect: bool | None = None) -> pd.DataFrame:
        """Predict the faces in photos and return one row per face; arguments and errors as for a call.

        Returns:
            Columns ``photo`` (its file, or its number, from 0), ``face`` (number in the photo, from 0) and
            those of :meth:`Face.to_dict`.
        """
        several: Any = photos if isinstance(photos, list | tuple) else [photos]
        names = [str(each) if isinstance(each, str | Path) else number for number, each in enumerate(several)]
        return pd.DataFrame(
            {"photo": name, "face": number} | face.to_dict()
            for name, faces in zip(names, self(several, detect), strict=True)
            for number, face in enumerate(faces)
        )

    def stream(self, photos: Iterable[PhotoInput], detect: bool | None = None) -> Iterator[PhotoFaces]:
        """Predict any number of photos in order, in constant memory; arguments as for a call.

        Threads read photos and detect faces ahead of the network, which gets full batches of faces of several
        photos.

        Yields:
            The faces of a photo; an unreadable one has an ``error`` and no faces.

        Raises:
            ConfigError: As for a call.
        """
        detector = self._load_detector() if self._detects(detect) else None
        crops: list[FaceCrop] = []  # not predicted yet
        faces: deque[Face] = deque()
        waiting: deque[_Cut] = deque()
        for photo in self._crops_ahead(photos, detector):
            crops += photo.crops
            waiting.append(photo)
            while len(crops) >= self.batch_size or (crops and len(waiting) > self.batch_size):
                faces.extend(self._faces(crops[: self.batch_size]))
                del crops[: self.batch_size]
            yield from _complete(waiting, faces)
        faces.extend(self.predict(crops))
        yield from _complete(waiting, faces)

    def describe(self, detect: bool | None = None) -> str:
        """Describe the training of the network and the preprocessing of a photo, see :meth:`__call__`."""
        return f"{self.model.describe()}; {self.preprocessing.describe(detect)}"

    def __repr__(self) -> str:
        model = self.model
        classes = [f"{task} {', '.join(names)}" for task, names in model.trained_classes.items()]
        predicts = ["age", *classes] if model.age is not None else classes
        trained = f"trained on {self.preprocessing.dataset or 'unknown faces'}; {model.image_size} px"
        calibrated = "calibrated" if model.describe_calibration() else "not calibrated"
        return f"AgeEstimator({'; '.join([trained, *predicts, calibrated, str(model.device)])})"

    def _detects(self, detect: bool | None) -> bool:
        return self.preprocessing.detects if detect is None else detect

    def _load_detector(self) -> FaceDetector:
        with self._loading:
            if self._detector is None:
                self._detector = load_detector(self.smallest_face, self.orientation)
            return self._detector

    def _crops_ahead(self, photos: Iterable[PhotoInput], detector: FaceDetector | None) -> Iterator["_Cut"]:
        """Yield the crops of each photo, or its error, read ahead in threads."""
        readers = min(_MOST_READERS, available_cores())
        with ThreadPoolExecutor(readers, thread_name_prefix="photos") as pool:
            yield from results_ahead(pool, partial(self._crops, detector=detector), photos, 2 * readers)

    def _crops(self, photo: PhotoInput, detector: FaceDetector | None) -> "_Cut":
        path = Path(photo) if isinstance(photo, str | Path) else None
        try:
            return _Cut(self._cut(photo, detector), "", path)
        except UnreadableImageError as error:
            return _Cut([], str(error), path)

    def crops(self, photo: PhotoInput, detect: bool | None = None) -> list[FaceCrop]:
        """Crop the faces of one photo for :meth:`predict`; arguments and errors as for a call."""
        return self._cut(photo, self._load_detector() if self._detects(detect) else None)

    def _cut(self, photo: PhotoInput, detector: FaceDetector | None) -> list[FaceCrop]:
        image, factor = load_photo(photo, self.max_pixels)
        crops = [self._cropper.whole(image)] if detector is None else self._cropper.detected(image, detector)
        return [crop.in_file(factor) for crop in crops]

    def predict(self, crops: Sequence[FaceCrop]) -> list[Face]:
        """Predict cropped faces, in batches."""
        batches = [crops[start : start + self.batch_size] for start in range(0, len(crops), self.batch_size)]
        return [face for batch in batches for face in self._faces(batch)]

    @torch.inference_mode()
    def output(self, crops: Sequence[FaceCrop]) -> FaceOutput:
        """Return the calibrated outputs for one batch of cropped faces, on the CPU.

        Raises:
            CheckpointError: An output is not finite.
        """
        images = self._images(crops)
        pairs = zip(self._networks, self._heads, strict=True)
        outputs = [self._output_of(network, head, images) for network, head in pairs]
        if isinstance(self.model, Ensemble):
            return self.model.calibrated(self.model.mixed(outputs))
        return outputs[0]

    def _output_of(self, network: MTMSA, head: AgeHead | None, images: Tensor) -> FaceOutput:
        """Return the output of a network with its own calibration, on the CPU."""
        mixed = PRECISIONS[self.precision]
        images = self.model.resized(network, images) if isinstance(self.model, Ensemble) else images
        with nullcontext() if mixed is None else torch.autocast(self.model.device.type, mixed):
            output = network(images)
        raw, gender, race = (
            None if each is None else each.cpu() for each in (output.age_raw, output.gender, output.race)
        )
        self._check_finite({"age": raw, "gender": gender, "race": race})
        age = None if head is None or raw is None else head.distribution(raw)
        return network.calibrated(FaceOutput(age, gender, race))

    def _check_finite(self, outputs: Mapping[str, Tensor | None]) -> None:
        """Raise CheckpointError for outputs that are not finite."""
        broken = [task for task, each in outputs.items() if each is not None and not each.isfinite().all()]
        if broken:
            advice = "" if PRECISIONS[self.precision] is None else "; use the precision 32-true"
            raise CheckpointError(
                f"{self._file or 'the network'}: its outputs ({', '.join(broken)}) are NaN or infinite in "
                f"precision {self.precision}, although its weights are finite: they overflow{advice}"
            )

    def _faces(self, crops: Sequence[FaceCrop]) -> list[Face]:
        output = self.output(crops)
        ages = self._ages(output, len(crops))
        classes = {
            task: _class_predictions(logits, self.model.trained_classes[task])
            for task, logits in self.model.trained_logits(output).items()
        }
        nothing: list[Any] = [None] * len(crops)
        genders, races = (classes.get(task, nothing) for task in ("gender", "race"))
        calibration, unsure = self.model.calibration, nothing
        if output.age is not None and calibration is not None and calibration.abstains:
            unsure = calibration.unsure(output.age, self.model.age_groups).tolist()
        over = self._decisions(output, len(crops))
        return [Face(*row) for row in zip(crops, ages, genders, races, unsure, over, strict=True)]

    def _decisions(self, output: FaceOutput, faces: int) -> list[dict[int, str]]:
        """Return the decision of each policy by its legal age, for every face."""
        calibration, age = self.model.calibration, output.age
        if age is None or calibration is None:
            return [{} for _ in range(faces)]
        codes = {each.legal_age: each.decide(age).tolist() for each in calibration.policies}
        return [
            {legal_age: DECISIONS[row[face]] for legal_age, row in codes.items()} for face in range(faces)
        ]

    def _images(self, crops: Sequence[FaceCrop]) -> Tensor:
        images = torch.from_numpy(np.stack([crop.image for crop in crops]))
        return images.to(self.model.device).permute(0, 3, 1, 2)

    def _ages(self, output: FaceOutput, faces: int) -> Sequence[Age | None]:
        if output.age is None:
            return [None] * faces
        groups = self.model.age_groups
        cells = output.age.group_probs(age_group_edges(groups)).tolist() if groups else [[]] * faces
        return [
            Age(output.age[row : row + 1], dict(zip(groups, cells[row], strict=True))) for row in range(faces)
        ]

    @property
    def has_attention(self) -> bool:
        """Whether the (first) network has attention modules."""
        return bool(self._networks[0].trunk.attention_modules())

    @torch.inference_mode()
    def attention(self, faces: Sequence[Face]) -> list[FaceAttention]:
        """Return the attention maps and scale weights for faces, without stages if there is no module.

        Of an ensemble they are those of its first network.
        """
        if not faces:
            return []
        images = self._images([face.crop for face in faces])
        network = self._networks[0]
        attended = network.trunk.attention(network.normalise(images))
        maps = {stage: each.spatial_map.float().cpu().numpy() for stage, each in attended.items()}
        weights = {stage: each.scale_weights.double().mean(2).tolist() for stage, each in attended.items()}
        rates = {stage: dilation_rates(network, stage) for stage in attended}
        return [
            FaceAttention(
                {stage: maps[stage][row] for stage in maps},
                {stage: list(zip(rates[stage], weights[stage][row], strict=True)) for stage in maps},
            )
            for row in range(len(faces))
        ]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (``model.safetensors``), settings (``config.json``) and model card to a folder.

        :meth:`from_pretrained`, ``--ckpt_path`` of every command and ``mtmsa fit --model.weights`` read it.
        The weights are saved exactly, with classes, calibration and provenance. The model card
        (``README.md``) is written from the record of the run; an unchanged network that was loaded from such
        a folder keeps its card. Files with these names are replaced.

        Raises:
            DataError: Nothing can be written there.
            ConfigError: It is an ensemble, which has no such folder.
        """
        if isinstance(self.model, Ensemble):
            raise ConfigError("an ensemble has no weights of its own: save each of its networks")
        from mtmsa_lightning.reports.card import card_of_network  # which imports pandas and plots

        provenance, calibration = self.model.provenance, self.model.calibration
        checkpoint = {
            "hyper_parameters": dict(self.model.hparams),
            "state_dict": self.model.state_dict(),
            "provenance": provenance,
            "calibration": None if calibration is None else calibration.to_dict(),
        }
        target, source = Path(folder).absolute(), self._file.parent if self._file else None
        before = identity(source) if source else None
        readme = source / README if source and before else None
        kept = readme.read_text(encoding="utf-8") if readme and readme.is_file() else ""
        card = card_of_network(checkpoint, target.name, self._file)
        write_pretrained(checkpoint, target)
        write_text(target / README, kept if kept and before == identity(target) else card)

    def push_to_hub(self, repo_id: str, *, private: bool = True, card: str | None = None) -> str:
        """Upload the folder of :meth:`save_pretrained` to the Hugging Face Hub and return the commit's URL.

        Args:
            repo_id: ``owner/name``; a missing repository is created.
            private: Whether a new repository is private; check the terms of the training data before you
                publish weights.
            card: Text of the model card, which replaces that of the repository; by default that of
                :meth:`save_pretrained`.

        Raises:
            ConfigError: The extra ``hub`` is not installed.
            CheckpointError: The Hub refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / repo_id.rpartition("/")[2]
            self.save_pretrained(folder)
            if card is not None:
                write_text(folder / README, card)
            return upload(folder, repo_id, private)


def results_ahead(
    pool: ThreadPoolExecutor, work: Callable[[_T], _R], items: Iterable[_T], ahead: int
) -> Iterator[_R]:
    """Yield the results for items, in order, while threads work on the next ones."""
    waiting: deque[Future[_R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _Cut(NamedTuple):
    """The cropped faces of a photo, or the error."""

    crops: list[FaceCrop]
    error: str
    path: Path | None


def _complete(waiting: deque[_Cut], faces: deque[Face]) -> Iterator[PhotoFaces]:
    """Yield the first photos whose faces are all predicted."""
    while waiting and len(waiting[0].crops) <= len(faces):
        crops, error, path = waiting.popleft()
        yield PhotoFaces([faces.popleft() for _ in crops], error, path)


def _class_predictions(logits: Tensor, names: Sequence[str]) -> list[ClassPrediction]:
    return [
        ClassPrediction(dict(zip(names, row, strict=True))) for row in logits.double().softmax(1).tolist()
    ]
