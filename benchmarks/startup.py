"""Measure the start-up time of commands, and of a training until its first step.

Every case is a new process. A repeat measures all of them in turn; ratios are of processor time within a
repeat, so that other load affects both sides. Files are in the page cache after one warm-up round; ``--cold``
measures first steps without Python's packages in it: pages of them that no other process has mapped are
dropped before each start.

    python benchmarks/startup.py --json startup.json
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torchvision
from common import Row, heading, record, table, write
from store import MORPH_FACES, write_full_set

from mtmsa_lightning.cli.main import OWN_COMMANDS

PYTHON = (sys.executable,)
MTMSA = (sys.executable, "-m", "mtmsa_lightning")

CASES: dict[str, tuple[str, ...]] = {
    "import torch": (*PYTHON, "-c", "import torch"),
    "import lightning.pytorch.cli": (*PYTHON, "-c", "import lightning.pytorch.cli"),
    "from mtmsa_lightning import MultiScaleAttention": (
        *PYTHON, "-c", "from mtmsa_lightning import MultiScaleAttention",
    ),
    "mtmsa --help": (*MTMSA, "--help"),
    "mtmsa fit --print_config": (*MTMSA, "fit", "--config", "demo.yaml", "--print_config"),
}  # fmt: skip

RATIOS = {
    "from mtmsa_lightning import MultiScaleAttention": "import torch",
    "mtmsa fit --print_config": "import lightning.pytorch.cli",
}
"""Cases, and the import that each is compared with."""

HERE = Path(__file__).parent


class Times(NamedTuple):
    """Processor and wall-clock seconds of a process."""

    processor: float
    clock: float


def run(command: Sequence[str], **environment: str) -> Times:
    """Run a command and return its times."""
    start, used = time.perf_counter(), children_seconds()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return Times(children_seconds() - used, time.perf_counter() - start)


def children_seconds() -> float:
    """Return the processor time of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure(repeats: int) -> dict[str, list[Times]]:
    """Time all cases after one warm-up round."""
    commands = {f"mtmsa {name} --help": (*MTMSA, name, "--help") for name in sorted(OWN_COMMANDS)}
    cases = CASES | commands
    times: dict[str, list[Times]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, command in cases.items():
            taken = run(command)
            if repeat:
                times[name].append(taken)
    slowest = max(commands, key=lambda name: min(each.processor for each in times[name]))
    times["slowest mtmsa COMMAND --help"] = times[slowest]
    return {name: values for name, values in times.items() if name not in commands}


def rows_of(times: dict[str, list[Times]]) -> list[Row]:
    """Return the rows of all cases and ratios."""
    setting = "a fresh process, files in the page cache; processor time"
    rows = [
        Row.of(f"startup/{name}", [each.processor for each in values], "s", "less", setting)
        for name, values in times.items()
    ]
    for name, base in RATIOS.items():
        pairs = zip(times[name], times[base], strict=True)
        ratios = [one.processor / other.processor for one, other in pairs]
        rows.append(Row.of(f"startup/{name}, ratio", ratios, f"x `{base}`", "less", setting))
    return rows


# ------------------------------------------------------------------ the first step


def first_step(root: Path, weights: Path, batch_size: int, repeats: int, cold: bool) -> list[Row]:
    """Time ``mtmsa fit`` on a table of MORPH's size from the start of the process to the end of a step."""
    marks: list[dict[str, tuple[float, float]]] = []
    for _ in range(repeats):
        if cold:
            forget(Path(sysconfig.get_paths()["purelib"]))
        marks.append(one_first_step(root, weights, batch_size))
    cache = "cold" if cold else "warm"
    setting = f"{MORPH_FACES} rows, prepared, 224 px, batches of {batch_size}, page cache {cache}"
    rows = []
    for kind, place in (("by the clock", 0), ("processor", 1)):
        for mark in marks[0]:
            values = [each[mark][place] for each in marks]
            better: Literal["less"] | None = "less" if mark == "first step" else None
            rows.append(Row.of(f"startup/fit, {mark}, {cache} cache, {kind}", values, "s", better, setting))
    return rows


def one_first_step(root: Path, weights: Path, batch_size: int) -> dict[str, tuple[float, float]]:
    """Return the times at which a run reached each stage: wall-clock and processor seconds."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "marks.json"
        run(
            (
                *MTMSA, "fit", "--config", "morph.yaml", "--data.root", str(root),
                "--data.batch_size", str(batch_size), "--model.weights", str(weights),
                "--trainer.max_steps", "1", "--trainer.limit_val_batches", "2",
                "--trainer.callbacks+=first_step.FirstStep", "--trainer.default_root_dir", folder,
                "--wandb", "disabled", "--test_after_fit", "false",
            ),
            BENCHMARK_FILE=str(marks), BENCHMARK_STARTED=str(time.monotonic()),
            PYTHONPATH=os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        )  # fmt: skip
        return {name: tuple(values) for name, values in json.loads(marks.read_text()).items()}


def forget(folder: Path) -> None:
    """Drop all files below a folder from the page cache, except those that a process has mapped."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure start-up.")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of all commands")
    parser.add_argument("--first_steps", type=int, default=3, help="timed starts of a training")
    batch = 64 if torch.cuda.is_available() else 8
    parser.add_argument("--batch_size", type=int, default=batch, help="faces of the first step")
    parser.add_argument("--cold", action="store_true", help="also without files in the page cache (Linux)")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args(args)
    load = os.getloadavg()[0]
    rows = rows_of(measure(options.repeats)) if options.repeats else []
    if options.first_steps:
        with tempfile.TemporaryDirectory() as folder:
            root, weights = Path(folder) / "morph", Path(folder) / "resnet34.pth"
            write_full_set(root)
            torch.save(torchvision.models.resnet34().state_dict(), weights)
            one_first_step(root, weights, options.batch_size)  # warms up
            for cold in (False, True)[: 1 + options.cold]:
                rows += first_step(root, weights, options.batch_size, options.first_steps, cold)
    print(f"{heading(record(rows, load))}\n\n{table(rows)}")
    if options.json:
        write(options.json, rows, load)


if __name__ == "__main__":
    main()
