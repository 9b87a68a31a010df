"""End all processes of a training when one of them fails."""

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
_LOST = "the process that connects the others has ended"
_INTERVAL = 0.5
"""Seconds between two checks of the other processes."""

_GRACE = 3.0
"""Seconds for a process to end itself; Lightning kills it 5 seconds after another one ended."""


class JointFailure(Callback):
    """Raise the error of one process in all processes, which would wait in their next collective operation.

    The failing process writes its message to the store of the process group, and a thread of each process
    reads it. A process that is still waiting after some seconds is ended.
    """

    def __init__(self) -> None:
        self._over = threading.Event()

    @classmethod
    def for_trainer(cls, trainer: Trainer) -> list[Callback]:
        """Start watching if there are several processes; return the callback if the Trainer lacks it."""
        if trainer.world_size == 1:
            return []
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        known = [each for each in callbacks if isinstance(each, cls)]
        callback = known[0] if known else cls()
        callback._over.clear()
        threading.Thread(target=callback._listen, args=(trainer,), daemon=True).start()
        return [] if known else [callback]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching."""
        self._over.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Send the error to the other processes, or raise ProcessError if one of them failed first."""
        self._over.set()
        stopped = isinstance(exception, Preempted) or not isinstance(exception, Exception)
        if stopped or not dist.is_initialized():  # a signal reaches all processes anyway
            return
        known = isinstance(exception, MTMSAError)
        message = str(exception) if known else f"{type(exception).__name__}: {exception}"
        own = f"process {trainer.global_rank} failed: {message}"
        try:
            first = _store().compare_set(_KEY, "", own).decode()
        except RuntimeError:  # the process of the store has ended
            return
        if first != own:
            raise ProcessError(first) from exception
        time.sleep(2 * _INTERVAL)  # until all have read it, since the store may end with this process

    def _listen(self, trainer: Trainer) -> None:
        while not self._over.wait(_INTERVAL):
            if (failure := _failure()) and not self._over.wait(_GRACE):
                _end(trainer, ProcessError(failure))


def _failure() -> str | None:
    """Return the error of another process, if any."""
    if not dist.is_initialized():
        return None
    try:
        return _store().get(_KEY).decode() if _store().check([_KEY]) else None
    except RuntimeError:
        return _LOST


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _end(trainer: Trainer, error: ProcessError) -> None:
    """End a process whose main thread waits for a failed one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(callback, JointFailure):
            with suppress(Exception):
                callback.on_exception(trainer, trainer.lightning_module, error)
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(2)
