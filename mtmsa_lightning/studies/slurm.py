"""Train the runs of a study as jobs of SLURM: one array of jobs, submitted by submitit."""

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.signals import TRY_AGAIN, Stopped
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.studies.jobs import LOST, Ended, Job, begin_log

log = logging.getLogger(__name__)

WARNING_SECONDS = 300
"""Seconds before the time limit at which a training saves and its job is put back into the queue."""

SIGNAL = signal.SIGUSR1
"""Announces the end of a job to all of its processes. submitit's own, SIGUSR2, would kill a training."""

DEFAULT_MINUTES = 24 * 60
"""Time limit of a job, after which it is queued again and its training goes on."""

MOST_REQUEUES = 1000
"""Times that a job may reach its time limit."""

NUMBER, STATUS = ".job", ".status"
"""Suffixes of files beside a job's log: its number in the queue, and its exit status at its end."""

POLL_SECONDS = 10.0
"""Seconds between two looks at the queue."""

LONG_NAMES = {"p": "partition", "t": "time", "A": "account", "c": "cpus_per_task", "q": "qos"}
"""Options of ``sbatch`` that have one letter, as submitit and SLURM spell them out."""


class SlurmTask:
    """One training inside a job of SLURM: run the command, and go on when the job starts again.

    submitit pickles the object, calls it in the job, and calls :meth:`checkpoint` on ``SIGNAL``.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command to its end and write its exit status."""
        begin_log(self.job)
        # The training starts its processes on this node itself: for Lightning, and for the choice of the
        # run's directory, it is not one of several tasks of SLURM.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        with self.job.log.open("ab") as output:
            self.process = self.job.start(environment, output)
            _wait(self.process)
        status = self.process.wait()
        if status == TRY_AGAIN:  # stopped by a signal on which submitit does nothing: SIGTERM
            signal.raise_signal(SIGNAL)
        write_text(self.job.log.with_suffix(STATUS), f"{status}\n")

    def checkpoint(self) -> Any:
        """Let the training save and end; return what the job does when it starts again."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            _wait(self.process)
        return DelayedSubmission(SlurmTask(self.job))


def _wait(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of a process without the lock of ``Popen``, which an interrupted call may hold."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


class SlurmJobs:
    """Submit jobs as one array, and wait for them; they go on when this process ends.

    Logs, ``NUMBER`` and ``STATUS`` files lie where every node sees them, as the runs do.
    """

    def __init__(self, folder: Path, options: Mapping[str, str | int], at_once: int | None = None) -> None:
        """Prepare to submit.

        Args:
            folder: Place of submitit's files.
            options: Options of ``sbatch`` for each job, without hyphens.
            at_once: Most jobs that run at the same time.

        Raises:
            ConfigError: submitit or SLURM is missing, or refuses an option.
        """
        self.executor = _executor(folder.absolute(), options, at_once)

    def has(self, log: Path) -> bool:
        """Return whether an earlier call has queued the job with this log, and it still waits or runs."""
        return not log.with_suffix(STATUS).exists() and _number(log) in _queued()

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Submit the jobs that are not queued; yield each when it has ended, with its status and seconds."""
        start = time.monotonic()
        new = [job for job in jobs if not self.has(job.log)]
        if len(new) < len(jobs):
            log.info("%s queued by an earlier call", pluralize(len(jobs) - len(new), "job is", "jobs are"))
        self._submit(new)
        waiting, missed = list(jobs), set[Job]()
        try:
            while waiting:
                queued = _queued()
                for job in list(waiting):
                    status = _status(job)
                    if status is None and _number(job.log) not in queued:
                        if job not in missed:  # it may have ended, or been requeued, since the last line
                            missed.add(job)
                            continue
                        status = LOST
                    if status is not None:
                        waiting.remove(job)
                        yield job, status, time.monotonic() - start
                if waiting:
                    time.sleep(POLL_SECONDS)
        except (Stopped, KeyboardInterrupt):
            numbers = " ".join(sorted({_number(job.log).partition("_")[0] for job in waiting}))
            log.warning("the jobs go on in SLURM; `scancel %s` ends them", numbers)
            raise

    def _submit(self, jobs: Sequence[Job]) -> None:
        """Submit jobs and write down their numbers."""
        if not jobs:
            return
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.with_suffix(STATUS).unlink(missing_ok=True)
        submitted = self.executor.submit_array([SlurmTask(job) for job in jobs])
        for job, each in zip(jobs, submitted, strict=True):
            write_text(job.log.with_suffix(NUMBER), f"{each.job_id}\n")
        numbers = ", ".join(f"{job.name} as {each.job_id}" for job, each in zip(jobs, submitted, strict=True))
        log.info("submitted to SLURM: %s", numbers)


def _executor(folder: Path, options: Mapping[str, str | int], at_once: int | None) -> Any:
    """Return submitit's executor with the options of the user."""
    try:
        import submitit
    except ImportError:
        raise ConfigError("--launch slurm needs submitit: pip install 'mtmsa-lightning[slurm]'") from None
    missing = [name for name in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"--launch slurm: there is no {missing[0]} here: start it on a SLURM cluster")
    executor = submitit.SlurmExecutor(folder, max_num_timeout=MOST_REQUEUES)
    known = executor._valid_parameters()
    signal_name = SIGNAL.name.removeprefix("SIG")
    own: dict[str, Any] = {
        "job_name": "mtmsa", "time": DEFAULT_MINUTES, "stderr_to_stdout": True,
        "setup": [f"export SUBMITIT_PREEMPT_SIGNAL={signal_name}"],  # read by submitit inside of the job
        "additional_parameters": {
            "signal": f"{signal_name}@{WARNING_SECONDS}", "requeue": True,
            **{key.replace("_", "-"): value for key, value in options.items() if key not in known},
        },
    }  # fmt: skip
    own |= {"array_parallelism": at_once} if at_once else {}
    executor.update_parameters(**own | {key: value for key, value in options.items() if key in known})
    return executor


def _number(log: Path) -> str:
    try:
        return log.with_suffix(NUMBER).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _status(job: Job) -> int | None:
    try:
        return int(job.log.with_suffix(STATUS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def read_options(texts: Sequence[str]) -> dict[str, str | int]:
    """Read options of ``sbatch`` such as ``time=24:00:00`` and ``exclusive``, with underscores or hyphens.

    Raises:
        ConfigError: An option has no name.
    """
    found: dict[str, str | int] = {}
    for text in texts:
        name, equals, value = text.lstrip("-").partition("=")
        name = LONG_NAMES.get(name, name).replace("-", "_")
        if not name.isidentifier():
            raise ConfigError(f"--slurm {text!r}: give options of sbatch, e.g. partition=gpu time=24:00:00")
        found[name] = (int(value) if value.isdigit() else value) if equals else True
    if "time" in found:
        found["time"] = _minutes(str(found["time"]))
    return found


def _minutes(text: str) -> int:
    """Return a time limit of ``sbatch`` (``90``, ``1:30:00``, ``2-12``, ``2-12:30:00``) in minutes."""
    days, hyphen, rest = text.rpartition("-")
    try:
        numbers = [int(part) for part in rest.split(":")]
        if len(numbers) > 3:
            raise ValueError
        if not hyphen and len(numbers) < 3:  # minutes, or minutes and seconds
            numbers.insert(0, 0)
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        return int(days or 0) * 24 * 60 + hours * 60 + minutes + (seconds > 0)
    except ValueError:
        raise ConfigError(f"--slurm time={text}: give minutes, hh:mm:ss or days-hh") from None


def _queued() -> set[str]:
    """Return the numbers of the user's jobs that are queued or running, tasks of arrays one by one."""
    user = os.environ.get("USER") or os.getuid()
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={user}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    except FileNotFoundError:
        raise ConfigError("--launch slurm: there is no squeue here: start it on a node of SLURM") from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"--launch slurm: squeue failed: {error.stderr.strip()}") from None
    return set(done.stdout.split())
