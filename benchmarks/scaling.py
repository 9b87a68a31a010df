r"""Measure weak scaling of the training step: a fixed batch per device, with 1, 2, 4, ... processes.

Without GPUs the processes share the cores (gloo); with GPUs each has one (NCCL). The step is that of ``mtmsa
fit``: MTMSA with DistributedDataParallel, a loss normalised by the labels of all processes, AdamW. The batch
is already on the device, so that loading is not included. Processes are synchronised before a step, and the
slowest one's time counts. The bytes are counted: gradients as DDP reduces them, buffers as it broadcasts
them, and label counts.

    python benchmarks/scaling.py --json scaling.json           # this machine: 1, 2, 4, ... processes
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        benchmarks/scaling.py --one --json scaling-16.json      # the processes started by torchrun

A ring all-reduce of S bytes moves 2 (n - 1) / n S through each process. It is hidden while
the backward pass takes longer: communication is the limit below volume / seconds of the backward pass.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from common import Row, processor, write
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtmsa_lightning import MTMSA, MSAConfig
from mtmsa_lightning.training.callbacks.run_record import git_commit, versions

QUESTIONS = {"labels of each task": 8 * 3, "stop?": 8}
"""Bytes that a step reduces in addition to gradients and broadcasts as buffers (float64 or int64)."""


class Loss(nn.Module):
    """The training loss of a batch, as a module that DDP wraps."""

    def __init__(self, model: MTMSA) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss."""
        return self.model.total_loss(self.model.losses(self.model(batch["image"]), batch))  # type: ignore[arg-type]


class Volume:
    """Counts the bytes of every bucket of gradients, then reduces it as DDP does by default."""

    def __init__(self) -> None:
        self.bytes, self.buckets = 0, 0

    def reduce(self, _: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
        """Count and reduce one bucket."""
        gradients = bucket.buffer()
        self.bytes += gradients.numel() * gradients.element_size()
        self.buckets += 1
        gradients.div_(dist.get_world_size())
        done = dist.all_reduce(gradients, async_op=True).get_future()
        return done.then(lambda future: future.value()[0])


def faces(batch_size: int, size: int, device: torch.device, rank: int) -> dict[str, Tensor]:
    """Return a batch of noise with all kinds of labels."""
    draw = torch.Generator().manual_seed(rank)
    age = torch.randint(16, 78, (batch_size,), generator=draw).double()
    batch = {
        "image": torch.randint(0, 256, (batch_size, 3, size, size), generator=draw, dtype=torch.uint8),
        "age_low": age,
        "age_high": age,
        "gender": torch.randint(0, 2, (batch_size,), generator=draw),
        "race": torch.randint(0, 5, (batch_size,), generator=draw),
    }
    return {name: value.to(device) for name, value in batch.items()}


def build(device: torch.device) -> MTMSA:
    torch.manual_seed(0)
    model = MTMSA(msa=MSAConfig(), race_classes=("white", "black", "asian", "hispanic", "other"))
    assert model.age is not None
    model.age.set_age_statistics(32.6, 11.0)
    return model.to(device).train()


class Step:
    """A training step and its parts."""

    def __init__(self, device: torch.device, rank: int, batch_size: int, size: int, bf16: bool) -> None:
        self.device, self.bf16 = device, bf16
        self.model = build(device)
        ids = [device.index] if device.type == "cuda" else None
        self.wrapped = DistributedDataParallel(Loss(self.model), device_ids=ids, gradient_as_bucket_view=True)
        self.optimizer = self.model.optimizer(self.model.parameter_groups())
        self.batch = faces(batch_size, size, device, rank)

    def forward(self) -> Tensor:
        """Return the loss of the batch."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss: Tensor = self.wrapped(self.batch)
        return loss

    def whole(self) -> None:
        """Run a whole step."""
        self.forward().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def silent(self) -> None:
        """Run a step without the reduction of gradients."""
        with self.wrapped.no_sync():
            self.whole()

    def backward_seconds(self) -> float:
        """Time one backward pass without communication."""
        with self.wrapped.no_sync():
            loss = self.forward()
            wait(self.device)
            start = time.perf_counter()
            loss.backward()
            wait(self.device)
        self.optimizer.zero_grad()
        return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def slowest(seconds: float, device: torch.device) -> float:
    value = torch.tensor(seconds, dtype=torch.float64, device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return float(value)


def timed(work: Callable[[], object], device: torch.device) -> float:
    dist.barrier()
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return slowest(time.perf_counter() - start, device)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the processes started by torchrun; every process calls this."""
    cuda = torch.cuda.is_available() and not options.cpu
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    size, batch_size = options.image_size or (224 if cuda else 64), options.batch_size or (64 if cuda else 8)
    step = Step(device, rank, batch_size, size, bf16=cuda)
    for _ in range(3):
        step.whole()
    times: dict[str, list[float]] = {"step": [], "silent": [], "backward": [], "reduce": []}
    gradients = torch.zeros(sum(p.numel() for p in step.model.parameters()), device=device)
    for _ in range(options.steps):  # in turn, so that other load affects all equally
        times["step"].append(timed(step.whole, device))
        times["silent"].append(timed(step.silent, device))
        times["backward"].append(slowest(step.backward_seconds(), device))
        times["reduce"].append(timed(lambda: dist.all_reduce(gradients), device))
    volume = Volume()
    step.wrapped.register_comm_hook(None, volume.reduce)
    step.whole()
    seconds = {name: statistics.median(values) for name, values in times.items()}
    row = measurements(step.model, volume, seconds, ranks, batch_size, size)
    dist.destroy_process_group()
    name = torch.cuda.get_device_name(device) if cuda else processor()
    return {"device": name, "backend": "nccl" if cuda else "gloo", "rank": rank} | row


def measurements(
    model: MTMSA, volume: Volume, seconds: dict[str, float], ranks: int, batch_size: int, size: int
) -> dict[str, Any]:
    share = 2 * (ranks - 1) / ranks
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return {
        "processes": ranks,
        "batch_per_device": batch_size,
        "image_size": size,
        "step_ms": 1e3 * seconds["step"],
        "step_without_reduction_ms": 1e3 * seconds["silent"],
        "backward_ms": 1e3 * seconds["backward"],
        "reduction_alone_ms": 1e3 * seconds["reduce"],
        "images_per_s": ranks * batch_size / seconds["step"],
        "gradient_bytes": volume.bytes,
        "gradient_buckets": volume.buckets,
        "buffer_bytes": sum(each.numel() * each.element_size() for each in model.buffers()),
        "question_bytes": sum(QUESTIONS.values()),
        "sync_batchnorm": {"layers": len(norms), "channels": sum(module.num_features for module in norms)},
        "ring_bytes_per_process": share * volume.bytes,
        "measured_ring_GB_per_s": share * volume.bytes / seconds["reduce"] / 1e9,
        "limiting_GB_per_s": share * volume.bytes / seconds["backward"] / 1e9,
    }


# ------------------------------------------------------------------ one machine


def launch(processes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a number of processes on this machine, by torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "row.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        given = ["--one", "--json", str(file), "--steps", str(options.steps), *["--cpu"][: options.cpu]]
        for name in ("image_size", "batch_size"):
            if value := getattr(options, name):
                given += [f"--{name}", str(value)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, __file__, *given]
        subprocess.run(command, env=environment, check=True)
        return dict(json.loads(file.read_text())["details"]["rows"][0])


def numbers_of_processes() -> list[int]:
    most = torch.cuda.device_count() or len(os.sched_getaffinity(0))
    return [n for n in (1, 2, 4, 8, 16) if n <= most]


def table(rows: Sequence[dict[str, Any]]) -> str:
    head = "processes  images/s  efficiency  step ms  without reduction ms  ring MB  limits below GB/s"
    first = rows[0]["images_per_s"] / rows[0]["processes"]
    lines = [
        f"{row['processes']:9}  {row['images_per_s']:8.1f}  "
        f"{row['images_per_s'] / row['processes'] / first:10.2f}  {row['step_ms']:7.1f}  "
        f"{row['step_without_reduction_ms']:20.1f}  {row['ring_bytes_per_process'] / 1e6:7.1f}  "
        f"{row['limiting_GB_per_s']:17.3f}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def rows_of(measured: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows of every number of processes: speed, and efficiency relative to one process."""
    found = []
    first = measured[0]["images_per_s"] / measured[0]["processes"]
    for each in measured:
        processes = each["processes"]
        name = f"scaling/{processes} processes"
        setting = f"{each['device']}, batches of {each['batch_per_device']} at {each['image_size']} px"
        speed = each["images_per_s"]
        found.append(Row(f"{name}, speed", speed, "images/s by the clock", "more", setting))
        if processes > 1:
            efficiency = speed / processes / first
            found.append(Row(f"{name}, efficiency", efficiency, "x one process", "more", setting))
    return found


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Weak scaling of the training step.")
    parser.add_argument("--processes", type=int, nargs="+", help="numbers of processes on this machine")
    parser.add_argument("--one", action="store_true", help="measure the processes that torchrun started")
    parser.add_argument("--batch_size", type=int, help="faces per device (64 on a GPU, 8 on a CPU)")
    parser.add_argument("--image_size", type=int, help="side in pixels (224 on a GPU, 64 on a CPU)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--cpu", action="store_true", help="do not use GPUs")
    parser.add_argument("--json", type=Path, help="also write setting and measurements to this file")
    options = parser.parse_args(args)
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    if options.one:
        rows = [measure(options)]
        if rows[0]["rank"]:
            return
    else:
        rows = [launch(n, options) for n in options.processes or numbers_of_processes()]
    setting = {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": versions(),
        "commit": git_commit(),
    }
    print(table(rows))
    if options.json:
        write(options.json, rows_of(rows), load, {"setting": setting, "rows": rows})


if __name__ == "__main__":
    main()
