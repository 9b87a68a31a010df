"""Ending all processes of a training when one of them has failed."""

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from mtmsa_lightning.errors import MTMSAError, Preempted, ProcessError

_KEY = "mtmsa/failure"
_LOST = "the process that the others are connected through has ended"
_INTERVAL = 0.5
"""Seconds between two looks at what the others say."""

_GRACE = 3.0
"""Seconds in which a process may end by itself; Lightning kills the first 5 seconds after another ended."""


class JointFailure(Callback):
    """Raises in every process what one of them has raised.

    Only the failing process knows; the others wait for it in their next collective operation, up to ten
    minutes with NCCL. So it writes its message into the store through which the processes met, and a thread
    of each process reads it. Where the connection breaks, as with gloo, that raises; a process which is still
    waiting after some seconds is ended. Added by :meth:`MTMSA.configure_callbacks` to trainings and
    evaluations of several processes.
    """

    def __init__(self) -> None:
        self._over = threading.Event()

    @classmethod
    def for_trainer(cls, trainer: Trainer) -> list[Callback]:
        """Start listening where there are several processes; return the callback that a Trainer lacks."""
        if trainer.world_size == 1:
            return []
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        known = [each for each in callbacks if isinstance(each, cls)]
        callback = known[0] if known else cls()
        callback.watch(trainer)
        return [] if known else [callback]

    def watch(self, trainer: Trainer) -> None:
        """Begin to listen to the other processes."""
        self._over.clear()
        threading.Thread(target=self._listen, args=(trainer,), daemon=True).start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop listening."""
        self._over.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell the other processes, unless one of them failed before.

        Raises:
            ProcessError: In place of what its failure led to here.
        """
        self._over.set()
        stopped = isinstance(exception, Preempted) or not isinstance(exception, Exception)
        if stopped or not dist.is_initialized():  # a signal reaches all processes
            return
        known = isinstance(exception, MTMSAError)
        message = str(exception) if known else f"{type(exception).__name__}: {exception}"
        own = f"process {trainer.global_rank} failed: {message}"
        try:
            first = _store().compare_set(_KEY, "", own).decode()
        except RuntimeError:  # the store has ended with its process
            return
        if first != own:
            raise ProcessError(first) from exception
        time.sleep(2 * _INTERVAL)  # until all have read it: the store may end with this process

    def _listen(self, trainer: Trainer) -> None:
        while not self._over.wait(_INTERVAL):
            if (failure := _failure()) and not self._over.wait(_GRACE):
                _end(trainer, ProcessError(failure))


def _failure() -> str | None:
    """Return what another process failed by."""
    if not dist.is_initialized():
        return None
    try:
        return _store().get(_KEY).decode() if _store().check([_KEY]) else None
    except RuntimeError:
        return _LOST


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _end(trainer: Trainer, error: ProcessError) -> None:
    """End a process whose main thread waits for one that has failed."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(callback, JointFailure):
            with suppress(Exception):
                callback.on_exception(trainer, trainer.lightning_module, error)
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(2)
