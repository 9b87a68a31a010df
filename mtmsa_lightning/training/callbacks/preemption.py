"""Save and stop on a signal, with status 75 (``EX_TEMPFAIL`` of sysexits.h: try again).

Lightning's handlers are replaced: they save elsewhere, requeue the job and communicate from a handler.
"""

import logging
import signal
import threading
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer

from mtmsa_lightning._utils.epoch_position import batches_into_epoch
from mtmsa_lightning._utils.signals import (
    HANGUP,
    STOP_SIGNALS,
    TRY_AGAIN,
    end_at_once,
    leave_terminal,
    stopped_by,
)
from mtmsa_lightning.errors import Preempted

log = logging.getLogger(__name__)

UNFINISHED = "the evaluation is incomplete; the same command repeats it"
"""Message if there is nothing to save."""


class Preemption(Callback):
    """Save ``file`` and end a run soon after a signal to any of its processes, by raising Preempted in all.

    Training ends after the current optimiser step, or, after an epoch's last batch, when the epoch was
    validated and saved. A test, or a validation outside of a training, ends after the current batch and must
    be repeated. All processes stop after the same batch: each step starts an asynchronous reduction, whose
    result the next one reads. A second Ctrl-C ends the process at once.

    Args:
        file: Checkpoint to write; None if nothing is trained.
        command: The command that continues; by default a call of ``trainer.fit``.
    """

    def __init__(self, file: Path | None, command: str | None = None) -> None:
        self.file = file
        self.command = command or f"trainer.fit(..., ckpt_path={str(file)!r})"
        self._signal = 0
        self._stopping = 0  # the signal that any of the processes got
        self._group: Any = None
        self._reduced = torch.zeros(1, dtype=torch.int64)
        self._pending: Any = None

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers in place of Lightning's, which restores them after the Trainer."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # e.g. by nohup
                    signal.signal(number, self._remember)
        # Lightning would synchronise the device at the start of every step
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        if trainer.world_size > 1 and self._group is None:
            # on the host, without synchronising a device
            self._group = torch.distributed.new_group(backend="gloo")

    on_train_start = on_test_start = on_validation_start = on_sanity_check_start

    def _remember(self, number: int, frame: object) -> None:
        if self._signal and number == signal.SIGINT:
            end_at_once(number)
        self._signal = number
        if number == HANGUP:
            leave_terminal()

    def _asked_to_stop(self) -> bool:
        """Return whether any process got a signal; the result is the same on all processes."""
        if self._group is None:
            self._stopping = self._stopping or self._signal
        elif not self._stopping:
            if self._pending is not None:
                self._pending.wait()
                self._stopping = int(self._reduced)
            self._reduced = torch.tensor([self._signal])
            maximum = torch.distributed.ReduceOp.MAX
            self._pending = torch.distributed.all_reduce(self._reduced, maximum, self._group, async_op=True)
        return self._stopping != 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Save and stop, unless gradients are accumulated or a validation is next."""
        done = batches_into_epoch(trainer)
        if self._asked_to_stop() and self.file and done and not _something_is_due(trainer, done):
            trainer.save_checkpoint(self.file, weights_only=False)
            self._stop(trainer, f"saved after batch {done} of epoch {trainer.current_epoch + 1}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between epochs, after the checkpoint of the last one."""
        if self._stopping:
            self._stop(trainer, f"saved after epoch {trainer.current_epoch}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the last reduction while the other processes still run."""
        if self._pending is not None:
            self._pending.wait()
            self._stopping = self._stopping or int(self._reduced)
            self._pending = None

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop a test."""
        if self._asked_to_stop():
            self._stop(trainer, "stopped testing, the training is complete" if self.file else UNFINISHED)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop a validation outside of a training."""
        if self.file is None and self._asked_to_stop():
            self._stop(trainer, UNFINISHED)

    def _stop(self, trainer: Trainer, done: str) -> NoReturn:
        how = f"; continue by: {self.command}" if self.file else ""
        log.info("%s", stopped_by(signal.Signals(self._stopping).name, f"{done}{how}"))
        raise Preempted(done, TRY_AGAIN if trainer.is_global_zero else 0)


def _something_is_due(trainer: Trainer, done: int) -> bool:
    """Return whether gradients are being accumulated or a validation within the epoch is next."""
    every = trainer.val_check_batch
    return done % trainer.accumulate_grad_batches != 0 or (every is not None and done % every == 0)
