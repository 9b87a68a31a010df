"""Where the runs of a study are trained: on this machine, on a Ray cluster, or by SLURM."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.studies.jobs import JobPool, Launcher

PLACES = ("local", "ray", "slurm")
"""Values of ``--launch``."""

CORES_PER_DEVICE = 8
"""CPU cores that a run asks a cluster for, for each GPU, or without one; most go to reading images."""


@dataclass(frozen=True)
class Launch:
    """How the runs of a study are started.

    Attributes:
        place: One of ``PLACES``.
        parallel: Most runs at once; None for one on this machine, and for as many as a cluster allows.
        slurm: Options of ``sbatch``, such as ``time=24:00:00``.
        dry_run: Print the commands and start nothing.
    """

    place: str = "local"
    parallel: int | None = None
    slurm: tuple[str, ...] = ()
    dry_run: bool = False

    def launcher(self, trainers: Sequence[Mapping[str, Any]], folder: Path) -> Launcher:
        """Return what starts the runs, for the settings of their trainers; ``folder`` is for its own files.

        Raises:
            ConfigError: The place cannot be used, or not for these trainers.
        """
        if self.place == "local":
            return JobPool(slots(trainers, self.parallel or 1), echoed=lambda line: line.startswith("epoch "))
        gpus = _gpus(trainers, self.place)
        cores = CORES_PER_DEVICE * max(1, gpus)
        if self.place == "ray":
            from mtmsa_lightning.studies.ray_jobs import RayJobs

            return RayJobs(gpus, cores, self.parallel)
        from mtmsa_lightning.studies.slurm import SlurmJobs, read_options

        options = read_options(self.slurm)
        if gpus and not any(name.startswith(("gpus", "gres")) for name in options):
            options["gpus_per_node"] = gpus
        if not any(name.startswith("cpus") for name in options):
            options["cpus_per_task"] = cores
        return SlurmJobs(folder / "slurm", options, self.parallel)


def slots(trainers: Sequence[Mapping[str, Any]], parallel: int) -> list[dict[str, str]]:
    """Return the environment variables of each parallel run on this machine: its cores and its GPUs."""
    if parallel == 1:
        return [{}]
    cores = os.environ.get("OMP_NUM_THREADS", str(max(1, available_cores() // parallel)))
    groups: list[str] = []
    accelerator, devices = _same_devices(trainers, "--parallel")
    if accelerator != "cpu":
        import torch

        names = os.environ.get("CUDA_VISIBLE_DEVICES")
        every = map(str, range(torch.cuda.device_count())) if names is None else names.split(",")
        groups = device_groups([name for name in every if name], devices)
    shared = [{"OMP_NUM_THREADS": cores}] * parallel
    return [
        each | ({"CUDA_VISIBLE_DEVICES": groups[number % len(groups)]} if groups else {})
        for number, each in enumerate(shared)
    ]


def device_groups(devices: Sequence[str], each: Any) -> list[str]:
    """Divide devices into groups of the size that a run uses; no groups if the run names its devices.

    >>> device_groups(["0", "1", "2", "3"], 2)
    ['0,1', '2,3']
    """
    if isinstance(each, list) or len(devices) < 2:
        return []
    size = 1 if each in ("auto", -1, "-1") else int(each)
    return [",".join(devices[first : first + size]) for first in range(0, len(devices) - size + 1, size)]


def _same_devices(trainers: Sequence[Mapping[str, Any]], option: str) -> tuple[Any, Any]:
    """Return accelerator and devices of all trainers; ConfigError if they differ."""
    found = [(trainer["accelerator"], trainer["devices"]) for trainer in trainers]
    if any(each != found[0] for each in found):
        raise ConfigError(f"{option}: the variants differ in trainer.accelerator or trainer.devices")
    return found[0]


def _gpus(trainers: Sequence[Mapping[str, Any]], place: str) -> int:
    """Return the GPUs that a run asks a cluster for: one, unless the trainer has a number of devices."""
    if any(trainer["num_nodes"] != 1 for trainer in trainers):
        raise ConfigError(f"--launch {place} trains each run on one node: set trainer.num_nodes to 1")
    accelerator, devices = _same_devices(trainers, f"--launch {place}")
    if isinstance(devices, list):
        raise ConfigError(f"--launch {place} chooses the devices: set trainer.devices to their number")
    if accelerator == "cpu":
        return 0
    return 1 if devices in ("auto", -1, "-1") else int(devices)
