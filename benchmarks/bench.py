"""Run all benchmarks at a size that fits the machine; write one table and one file of measurements.

Scripts run one after the other, each in its own process. A failure is reported and the other scripts run.

    python benchmarks/bench.py --json bench.json             # `make bench`: about ten minutes on two cores
    python benchmarks/bench.py --gpu --json bench-gpu.json   # `make bench-gpu`: benchmarks that use a GPU
    python benchmarks/compare.py before.json bench.json      # what got worse
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from common import Row, heading, read, record, table, write

HERE = Path(__file__).parent


class Script(NamedTuple):
    """A benchmark.

    Attributes:
        name: Name of its file.
        cpu: Arguments on a machine without a GPU; None skips it.
        gpu: Arguments on a machine with a GPU; None skips it.
        tiny: Arguments for a test that it runs.
    """

    name: str
    cpu: str | None
    gpu: str | None
    tiny: str


SCRIPTS = (
    Script("startup", "--repeats 3 --first_steps 1", "--repeats 3", "--repeats 1 --first_steps 0"),
    Script("decode", "--repeats 9", None, "--images 2 --repeats 1"),
    Script(
        "loading", "--repeats 3 --steps 0", "--repeats 5",
        "--photos 4 --batch_size 2 --repeats 1 --seconds 0.01 --steps 0",
    ),
    Script("readers", "--fraction 0.05", None, "--fraction 0.0001 --repeats 1"),
    Script("store", "--faces 256 --repeats 5", None, "--faces 8 --repeats 1"),
    Script(
        "peers", "--faces 24 --repeats 2 --inference 3", "",
        "--faces 8 --batch_size 2 --repeats 1 --inference 1 --batch_sizes 1",
    ),
    Script(
        "step", "--parts msa --rounds 3 --no_compile", "--parts msa settings memory",
        "--parts msa --size 64 --batch_size 2 --rounds 1 --no_compile",
    ),
    Script(
        "loop", "--parts loop evaluation --rounds 5", "--parts loop evaluation store",
        "--parts loop evaluation --size 64 --batch_size 2 --rounds 1 --faces 16",
    ),
    Script("prediction", "--photos 32 --repeats 2", "--photos 512", "--photos 4 --repeats 1"),
    Script("scaling", "--steps 5", "", "--processes 1 --steps 1"),
)  # fmt: skip
"""The benchmarks of speed; ``receptive_field.py`` and ``batchnorm.py`` do not measure it."""


class Outcome(NamedTuple):
    """Rows of a script, or the reason why there are none."""

    rows: list[Row]
    failure: str | None


def arguments(script: Script, size: str) -> list[str] | None:
    """Return the arguments of a script for a size, None to skip it."""
    given: str | None = getattr(script, size)
    return None if given is None else given.split()


def run(script: Script, given: Sequence[str]) -> Outcome:
    """Run a script and read its rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measurements.json"
        command = [sys.executable, str(HERE / f"{script.name}.py"), *given, "--json", str(file)]
        environment = {"OMP_NUM_THREADS": "1"} | os.environ
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return Outcome([], f"exit status {done.returncode}")
        try:
            return Outcome(read(file)["rows"], None)
        except (OSError, ValueError) as error:
            return Outcome([], str(error))


def main(args: Sequence[str] | None = None) -> int:
    names = [script.name for script in SCRIPTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", action="store_true", help="only benchmarks that use a GPU")
    parser.add_argument("--tiny", action="store_true", help="only test that the scripts run")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="scripts (default: all)")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args(args)
    if options.gpu and not torch.cuda.is_available():
        print("error: --gpu: this machine has no GPU", file=sys.stderr)
        return 2
    size = "tiny" if options.tiny else "gpu" if options.gpu else "cpu"
    load, rows, failures = os.getloadavg()[0], [], {}
    for script in [script for script in SCRIPTS if script.name in options.only]:
        if (given := arguments(script, size)) is None:
            continue
        start = time.perf_counter()
        outcome = run(script, given)
        print(f"{script.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        rows += outcome.rows
        if outcome.failure:
            failures[script.name] = outcome.failure
    print(f"{heading(record(rows, load))}\n\n{table(rows)}")
    if options.json:
        write(options.json, rows, load)
    for name, failure in failures.items():
        print(f"{name}.py failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
