"""Find out which process of a launch this is, without Lightning."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

RUN_DIR_VARIABLE = "MTMSA_RUN_DIR"
"""Tells processes launched by this one which run they belong to."""

_LAUNCHING = (RUN_DIR_VARIABLE, "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that a run, or Lightning's launcher, sets for the processes that it starts."""


@contextmanager
def launch_variables_removed() -> Iterator[None]:
    """Remove at the end what a launch has set, so that no later run believes that it belongs to it."""
    before = {name for name in _LAUNCHING if name in os.environ}
    try:
        yield
    finally:
        for name in _LAUNCHING:
            if name not in before:
                os.environ.pop(name, None)


def slurm_step() -> str | None:
    """Return ``<job>.<step>.<restart>`` for a task of a step of several; None outside of one.

    A script of ``sbatch`` or a shell of ``salloc`` is one process; its step has a number from 0xfffffff0 on.
    """
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID", "")
    if job is None or not step.isdigit() or int(step) >= 0xFFFFFFF0:
        return None
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", "1"))
    return f"{job}.{step}.{os.environ.get('SLURM_RESTART_COUNT', '0')}" if int(tasks) > 1 else None


def is_first_process() -> bool:
    """Return whether this is the first process of its launch, without Lightning.

    torchrun gives every process its rank, whose order need not be that of the tasks of SLURM which start it.
    """
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    numbers = ("LOCAL_RANK", "NODE_RANK", *(["SLURM_PROCID"] if slurm_step() else []))
    return all(os.environ.get(name, "0") == "0" for name in numbers)
