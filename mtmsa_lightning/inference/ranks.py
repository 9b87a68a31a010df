"""Predict on several devices, with one process for each."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.devices import choose_accelerator
from mtmsa_lightning._utils.progress import Advance
from mtmsa_lightning.align.crop_files import end_with_parent
from mtmsa_lightning.errors import ConfigError, DataError, MTMSAError
from mtmsa_lightning.inference.bulk import Job, predict_parts
from mtmsa_lightning.inference.estimator import AgeEstimator


def choose_devices(accelerator: str, devices: str) -> list[str]:
    """Return the names of the devices to use.

    Args:
        accelerator: ``cpu``, ``gpu`` (or ``cuda``), or ``auto`` for a GPU if there is one.
        devices: Their number, or ``auto``: all GPUs, or one process on the CPU.

    Raises:
        ConfigError: There are no such devices, or too few.
    """
    kind = choose_accelerator(accelerator)
    there = {"cuda": torch.cuda.device_count(), "cpu": None}
    if kind not in there:
        raise ConfigError(f"--accelerator {accelerator}: choose one of auto, cpu, gpu")
    most = there[kind]
    if not (devices == "auto" or (devices.isdecimal() and int(devices) > 0)):
        raise ConfigError(f"--devices {devices}: give a number from 1, or auto")
    number = int(devices) if devices != "auto" else most or 1
    if most is not None and number > most:
        raise ConfigError(f"--accelerator {accelerator} --devices {devices}: there are {most}")
    return [f"cuda:{index}" for index in range(number)] if kind == "cuda" else [kind] * number


def predict_on(
    devices: Sequence[str],
    load: Callable[..., AgeEstimator],
    job: Job,
    numbers: Sequence[int],
    advance: Advance,
) -> None:
    """Predict parts with one process per device, which take turns; ``load`` is pickled and loads the network.

    Raises:
        MTMSAError: A process raised it.
        DataError: A process died; complete parts are kept.
    """
    context = multiprocessing.get_context("spawn")  # forking with CUDA or threads can lock up
    processes: dict[Connection, BaseProcess] = {}
    try:
        for rank, device in enumerate(devices):
            receiver, sender = context.Pipe(duplex=False)
            arguments = device, len(devices), load, job, numbers[rank :: len(devices)], sender
            process: BaseProcess = context.Process(target=_rank, args=arguments, daemon=True)
            process.start()
            sender.close()
            processes[receiver] = process
        _follow(processes, advance)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


def _follow(processes: dict[Connection, BaseProcess], advance: Advance) -> None:
    """Receive messages of all processes until each has ended."""
    running = dict(processes)
    while running:
        for receiver in wait(list(running)):
            assert isinstance(receiver, Connection)
            try:
                message: int | MTMSAError = receiver.recv()
            except EOFError:
                process = running.pop(receiver)
                process.join()
                if process.exitcode:
                    raise DataError(
                        f"a process died (status {process.exitcode}), perhaps out of memory: run the "
                        "same command again to continue from here"
                    ) from None
                continue
            if isinstance(message, MTMSAError):
                raise message
            advance(message)


def _rank(
    device: str,
    ranks: int,
    load: Callable[..., AgeEstimator],
    job: Job,
    numbers: Sequence[int],
    sender: Connection,
) -> None:
    """Predict parts in a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    threading.Thread(target=end_with_parent, daemon=True).start()
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cores() // ranks))
    try:
        predict_parts(load(device=device), job, numbers, lambda n: sender.send(n))
    except MTMSAError as error:
        sender.send(error)
