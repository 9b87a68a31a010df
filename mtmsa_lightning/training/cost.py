"""Estimate the time and memory of a training on this device from a few timed steps."""

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_dataset import FaceBatch, SampleKey, collate
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.module import MTMSA

VALIDATION = 1 / 3
"""Cost of a validation face relative to a training face: the forward pass alone."""


@dataclass(frozen=True)
class Cost:
    """Measured time and memory."""

    device: str
    precision: str  # Lightning's name
    faces: int  # in a timed step; a full batch, or fewer if that takes too long
    steps: int  # number of timed steps
    face_seconds: float  # forward, backward and optimiser step, per face on one device
    load_seconds: float  # reading and transforming one image on one core
    memory: float  # bytes of a step with a full batch on a device
    memory_how: str  # how ``memory`` was measured

    def epoch_seconds(self, train: int, val: int, devices: int, workers: int) -> float:
        """Estimate the seconds of an epoch with its validation, with ``workers`` loader processes per device.

        On an accelerator, loading and steps overlap, so that the slower one counts; on the CPU they share the
        cores, so that their times add up.
        """
        compute = self.face_seconds * (train + VALIDATION * val) / devices
        if self.device == "cpu":
            return compute + self.load_seconds * (train + val) / available_cores()
        return max(compute, self.load_seconds * (train + val) / devices / max(1, workers))


def training_cost(
    model: MTMSA, data: FaceDataModule, device: torch.device, precision: str, budget: float = 5.0
) -> Cost:
    """Time training steps of a model on faces of its data, for about ``budget`` seconds.

    On an accelerator a step has the full batch and its memory is read from the device. On the CPU the number
    of faces is doubled while time is left; memory is that of weights, gradients and optimiser plus the
    activations kept for the backward pass, which are scaled to a full batch. The model's weights are changed.
    A precision other than ``bf16-mixed`` and ``16-mixed`` is timed as 32-true.

    Raises:
        ConfigError: A full batch does not fit the accelerator's memory.
    """
    loaded, load_seconds = _load(data, min(data.batch_size, len(data.train_dataset)))
    step = _Step(model.to(device).train(), data, device, precision)
    try:
        if device.type == "cpu":
            faces, times = _grow(step, loaded, data.batch_size, budget)
        else:
            faces = data.batch_size
            times = _repeat(step, _batch(loaded, faces, device), budget)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"a batch of {pluralize(data.batch_size, 'face')} of {data.image_size} px does not fit {device}: "
            "choose a smaller data.batch_size"
        ) from error
    if device.type == "cuda":
        name, memory = torch.cuda.get_device_name(device), float(torch.cuda.max_memory_allocated(device))
        how = "measured with a full batch"
    else:
        activations = step.activation_bytes(_batch(loaded, faces, device)) * data.batch_size / faces
        name, memory = device.type, step.state_bytes() + activations
        how = f"counted with {pluralize(faces, 'face')}, scaled to a batch of {data.batch_size}"
    return Cost(name, step.precision, faces, len(times), median(times) / faces, load_seconds, memory, how)


class _Step:
    """One optimisation step as in the Trainer, including augmentation on the device."""

    def __init__(self, model: MTMSA, data: FaceDataModule, device: torch.device, precision: str) -> None:
        self.model, self.data, self.device = model, data, device
        self.dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
        self.precision = precision if self.dtype else "32-true"
        self.optimizer = model.optimizer(model.parameter_groups())

    def loss(self, batch: FaceBatch) -> Tensor:
        batch = self.data.on_after_batch_transfer(batch, 0)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            return self.model.total_loss(self.model.losses(self.model(batch["image"]), batch))

    def __call__(self, batch: FaceBatch) -> float:
        """Return the seconds of a step."""
        start = time.perf_counter()
        self.loss(batch).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def state_bytes(self) -> int:
        """Return the bytes of weights, gradients and optimiser state."""
        weights = sum(tensor.nbytes for tensor in self.model.parameters())
        kept = [value for state in self.optimizer.state.values() for value in state.values()]
        return 2 * weights + sum(value.nbytes for value in kept if isinstance(value, Tensor))

    def activation_bytes(self, batch: FaceBatch) -> int:
        """Return the bytes of all distinct tensors that the forward pass keeps for the backward pass."""
        seen: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.loss(batch)
        weights = {tensor.untyped_storage().data_ptr() for tensor in self.model.parameters()}
        del loss
        return sum(size for pointer, size in seen.items() if pointer not in weights)


def _load(data: FaceDataModule, most: int, budget: float = 1.0) -> tuple[FaceBatch, float]:
    """Load training faces for ``budget`` seconds; return them and the seconds per face."""
    start, samples = time.perf_counter(), []
    for row in range(most):
        samples.append(data.train_dataset[SampleKey(row)])
        if time.perf_counter() - start > budget:
            break
    return collate(samples), (time.perf_counter() - start) / len(samples)


def _batch(loaded: FaceBatch, faces: int, device: torch.device) -> FaceBatch:
    """Return a batch with a number of faces, which repeat the loaded ones."""
    rows = torch.arange(faces) % len(loaded["image"])
    tensors = {name: value[rows].to(device) for name, value in loaded.items() if isinstance(value, Tensor)}
    drawn = loaded["augmentation"]
    return {**loaded, **tensors, "augmentation": None if drawn is None else drawn[rows.numpy()]}  # type: ignore[typeddict-item]


def _grow(step: _Step, loaded: FaceBatch, batch_size: int, budget: float) -> tuple[int, list[float]]:
    """Double the faces while time is left; return their number and the seconds of the steps."""
    faces, start = min(2, batch_size), time.perf_counter()
    step(_batch(loaded, faces, step.device))  # the first step creates the optimiser's state
    while True:
        seconds = step(_batch(loaded, faces, step.device))
        left = budget - (time.perf_counter() - start)
        if faces == batch_size or 4 * seconds > left:
            break
        faces = min(2 * faces, batch_size)
    return faces, [seconds, *_repeat(step, _batch(loaded, faces, step.device), left, warm=True)]


def _repeat(step: _Step, batch: FaceBatch, budget: float, warm: bool = False) -> list[float]:
    """Time up to ten steps within ``budget`` seconds, after two untimed ones unless ``warm``."""
    start, times = time.perf_counter(), list[float]()
    if not warm:
        step(batch), step(batch)
    while len(times) < 10 and (time.perf_counter() - start < budget or not (warm or times)):
        times.append(step(batch))
    return times
