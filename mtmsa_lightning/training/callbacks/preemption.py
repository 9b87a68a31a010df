"""Stopping in order when the machine is needed for something else.

Batch systems announce the end of a job by a signal (SLURM by that which ``--signal`` names, and by SIGTERM),
Ctrl-C sends SIGINT, and a terminal that is closed SIGHUP. The run then saves ``last.ckpt`` after the step
that it is in and exits with status 75 (``EX_TEMPFAIL`` of sysexits.h: try again), whatever started it.
Lightning's own handlers are replaced: that for SLURM saves beside the run and requeues the job by itself, and
that for SIGTERM talks to other processes from a handler.
"""

import logging
import os
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
    stopped_by,
    write_nowhere,
)
from mtmsa_lightning.errors import Preempted

log = logging.getLogger(__name__)

UNFINISHED = "nothing was evaluated to the end; the same command does it anew"
"""What is said where there is nothing to save."""


class Preemption(Callback):
    """Saves and ends a run soon after a signal to any of its processes.

    In training that is after the optimiser's step of the batch in progress; after an epoch's last batch the
    run validates and saves as ever, and ends then. A test, or a validation that is not part of a training,
    ends after a batch, and has to be repeated as a whole. Of several processes all stop after the same batch,
    the one after that in which the first of them heard the signal: each step asks all processes, and the next
    one hears the answer, so that none waits. A second Ctrl-C ends the process at once.

    Args:
        file: Checkpoint to write; None where nothing is trained.
        command: The command that continues.

    Raises:
        Preempted: In all processes, once the checkpoint is written.
    """

    def __init__(self, file: Path | None, command: str | None = None) -> None:
        self.file = file
        self.command = command or f"trainer.fit(..., ckpt_path={str(file)!r})"
        self._signal = 0
        self._stopping = 0  # the signal that any of the processes heard
        self._group: Any = None
        self._heard = torch.zeros(1, dtype=torch.int64)
        self._answer: Any = None

    # ---------------------------------------------------------------- signals

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in Lightning's place."""
        self._listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in Lightning's place."""
        self._listen(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in Lightning's place."""
        self._listen(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in Lightning's place."""
        self._listen(trainer)

    def _listen(self, trainer: Trainer) -> None:
        """Take over the signals; Lightning restores who had them when the Trainer is done."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # as nohup ignores that of a closed terminal
                    signal.signal(number, self._remember)
        # Lightning would ask on the device at the start of every step, and wait for the answer
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        if trainer.world_size > 1 and self._group is None:
            # on the host: no step waits for a device
            self._group = torch.distributed.new_group(backend="gloo")

    def _remember(self, number: int, frame: object) -> None:
        if self._signal and number == signal.SIGINT:
            end_at_once(number)
        self._signal = number
        if number == HANGUP and os.isatty(1):
            write_nowhere()

    def _asked_to_stop(self) -> bool:
        """Return whether any process was, the same answer, by the same signal, in all of them."""
        if self._group is None:
            self._stopping = self._stopping or self._signal
        elif not self._stopping:
            if self._answer is not None:
                self._answer.wait()
                self._stopping = int(self._heard)
            self._heard = torch.tensor([self._signal])
            maximum = torch.distributed.ReduceOp.MAX
            self._answer = torch.distributed.all_reduce(self._heard, maximum, self._group, async_op=True)
        return self._stopping != 0

    # ---------------------------------------------------------------- where a run may stop

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if this is a place to continue from."""
        done = batches_into_epoch(trainer)
        if self._asked_to_stop() and self.file and done and not _something_is_due(trainer, done):
            trainer.save_checkpoint(self.file, weights_only=False)
            self._stop(trainer, f"saved after batch {done} of epoch {trainer.current_epoch + 1}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between epochs: the checkpoint of the last one is there."""
        if self._stopping:
            self._stop(trainer, f"saved after epoch {trainer.current_epoch}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hear the last answer, while the others are there."""
        if self._answer is not None:
            self._answer.wait()
            self._stopping = self._stopping or int(self._heard)
            self._answer = None

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop a test."""
        if self._asked_to_stop():
            self._stop(trainer, "stopped testing, the training is complete" if self.file else UNFINISHED)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop a validation that is not part of a training."""
        if self.file is None and self._asked_to_stop():
            self._stop(trainer, UNFINISHED)

    def _stop(self, trainer: Trainer, done: str) -> NoReturn:
        how = f"; continue by: {self.command}" if self.file else ""
        log.info("%s", stopped_by(signal.Signals(self._stopping).name, f"{done}{how}"))
        raise Preempted(done, TRY_AGAIN if trainer.is_global_zero else 0)


def _something_is_due(trainer: Trainer, done: int) -> bool:
    """Return whether gradients are being accumulated, or a validation within the epoch comes next."""
    every = trainer.val_check_batch
    return done % trainer.accumulate_grad_batches != 0 or (every is not None and done % every == 0)
