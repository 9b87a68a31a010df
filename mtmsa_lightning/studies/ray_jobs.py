"""Train the runs of a study as tasks of a Ray cluster."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.processes import GRACE
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.studies.jobs import LOST, Ended, Job, begin_log

POLL_SECONDS = 0.2

RETRIES = 3
"""Times that a job starts again, and goes on, after its node failed."""


class RayJobs:
    """Run jobs on the Ray cluster that ``RAY_ADDRESS`` names or that runs here, else on this machine.

    The jobs end with this process. Runs lie where every node sees them.
    """

    def __init__(self, gpus: int, cpus: int, at_once: int | None = None) -> None:
        """Prepare to start jobs that use some GPUs and CPU cores each, at most ``at_once`` at a time.

        Raises:
            ConfigError: Ray is missing.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError("--launch ray needs Ray: pip install 'mtmsa-lightning[ray]'") from None
        self.ray: Any = ray  # its decorators have no types for given resources
        self.gpus = gpus
        self.cpus = cpus
        self.at_once = at_once

    def has(self, log: Path) -> bool:
        """Return False: jobs end with this process."""
        return False

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Run all jobs; yield each when it has ended, with its exit status and its seconds.

        Raises:
            ConfigError: No node of the cluster has the GPUs that a job needs.
        """
        if not jobs:
            return
        ours = not self.ray.is_initialized()
        if ours:
            self.ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        waiting, running, begin = list(jobs), dict[Any, Job](), time.monotonic()
        try:
            start = self.ray.remote(max_retries=RETRIES, **self._resources())(run_job)
            while waiting or running:
                while waiting and (self.at_once is None or len(running) < self.at_once):
                    job = waiting.pop(0)
                    running[start.remote(job, str(Path.cwd()))] = job
                (done,), _ = self.ray.wait(list(running), num_returns=1)
                try:
                    status, seconds = self.ray.get(done)
                except self.ray.exceptions.RayError:  # its node failed too often, or it was cancelled
                    status, seconds = LOST, time.monotonic() - begin
                yield running.pop(done), status, seconds
        finally:
            for task in running:
                self.ray.cancel(task)
            self.ray.wait(list(running), num_returns=len(running), timeout=GRACE) if running else None
            if ours:
                self.ray.shutdown()

    def _resources(self) -> dict[str, float]:
        """Return the GPUs and cores of a job: no more cores than the largest node has.

        Raises:
            ConfigError: No node has the GPUs, for which Ray would wait without end.
        """
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        fitting = [node for node in nodes if node.get("GPU", 0) >= self.gpus]
        if not fitting:
            most = max(node.get("GPU", 0) for node in nodes)
            advice = "set trainer.devices, or trainer.accelerator to cpu"
            raise ConfigError(f"--launch ray: a run needs {self.gpus} GPUs of a node, not {most:g}: {advice}")
        cores = max(node.get("CPU", 1) for node in fitting)
        return {"num_gpus": self.gpus, "num_cpus": min(self.cpus, cores)}


def run_job(job: Job, folder: str) -> tuple[int, float]:
    """Run a job on the node of a task; on cancellation let it save and end."""
    begin, process = time.monotonic(), None
    os.chdir(folder)
    begin_log(job)
    try:
        with job.log.open("ab") as output:
            process = job.start(os.environ, output)
            while (status := process.poll()) is None:
                time.sleep(POLL_SECONDS)  # Ray interrupts Python code only
    except BaseException:  # KeyboardInterrupt by ray.cancel
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(GRACE)
        raise
    return status, time.monotonic() - begin
