"""Measure a GPU in one command: all benchmarks that use it, and the study of attention to convergence.

    make gpu-day FACES=utkface           # a folder of faces with UTKFace's names; drawn faces without it
    python benchmarks/gpu_day.py --tiny --out runs/rehearsal   # a rehearsal on any machine

Every part is written to ``OUT/gpu_day.json`` when it ends, and the study continues interrupted runs, so that
the same command goes on after an interruption. Parts that have not started after ``--minutes`` are left for
the next call.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench import HERE, SCRIPTS, arguments, run
from common import Row, heading, record, table

from mtmsa_lightning.data.synthetic import write_utkface

STUDY = "gpu_attention"
GRACE = 60
"""Seconds that a study has to save its runs after the time is up."""


class Part(NamedTuple):
    """A part of the measurements.

    Attributes:
        rows: Measurements of speed.
        text: A table in Markdown.
        failure: Why it has neither; the next call repeats it.
    """

    rows: list[Row]
    text: str = ""
    failure: str | None = None


def parts(options: argparse.Namespace) -> Iterator[str]:
    """Yield the names of all parts: the study second, in case that time runs out."""
    size = "tiny" if options.tiny else "gpu"
    names = [
        f"bench/{script.name}" for script in SCRIPTS if script.gpu is not None and arguments(script, size)
    ]
    first = "bench/step"
    yield from (name for name in (first, f"study/{STUDY}") if name in {*names, f"study/{STUDY}"})
    yield from (name for name in names if name != first)


def measure(name: str, options: argparse.Namespace, deadline: float) -> Part:
    """Carry out one part."""
    kind, _, of_kind = name.partition("/")
    if kind == "study":
        return study(options, deadline)
    script = next(script for script in SCRIPTS if script.name == of_kind)
    outcome = run(script, arguments(script, "tiny" if options.tiny else "gpu") or [])
    return Part(outcome.rows, failure=outcome.failure)


def study(options: argparse.Namespace, deadline: float) -> Part:
    """Train the study's runs until the deadline and return its table."""
    faces = options.faces or options.out / "drawn"
    if not faces.is_dir():
        write_utkface(faces, n_faces=60 if options.tiny else 6000, seed=0)
    command = [
        sys.executable, "-m", "mtmsa_lightning", "reproduce", STUDY, "--root", str(faces),
        "--trainer.default_root_dir", str(options.out / "runs"), "--parallel", str(options.parallel),
        "--wandb", "disabled",
    ]  # fmt: skip
    if options.tiny:
        command += [
            "--variants", "msa", "--seeds", "0", "--data.image_size", "64", "--data.num_workers", "0",
            "--data.batch_size", "8", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2",
        ]  # fmt: skip
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        status = process.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
        return Part([], failure="the time is up: the same command continues its runs")
    if status:
        return Part([], failure=f"exit status {status}")
    tables = sorted((options.out / "runs" / "studies").glob(f"{STUDY}*/table.md"))
    return Part([], tables[-1].read_text(encoding="utf-8"))


def read(file: Path, now: dict[str, Any]) -> dict[str, Part]:
    """Return the parts of an earlier call; exit if it measured another machine or other code."""
    if not file.exists():
        return {}
    earlier = json.loads(file.read_text(encoding="utf-8"))
    if any(earlier[key] != now[key] for key in ("machine", "commit", "tiny")):
        raise SystemExit(f"error: {file} is of another machine, commit or size: give another --out")
    return {
        name: Part([Row(**row) for row in part["rows"]], part["text"])
        for name, part in earlier["parts"].items()
    }


def write(file: Path, now: dict[str, Any], done: dict[str, Part]) -> None:
    """Write all parts, as a whole or not at all."""
    plain = {
        name: {"rows": [vars(row) for row in part.rows], "text": part.text} for name, part in done.items()
    }
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(now | {"parts": plain}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(file)


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, help="folder of faces with UTKFace's names")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_day"), help="folder of all results")
    parser.add_argument("--minutes", type=float, default=12, help="time after which no part starts")
    parser.add_argument("--parallel", type=int, default=3, help="runs of the study at a time")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts, e.g. bench/step (default: all)")
    parser.add_argument("--tiny", action="store_true", help="only test that everything runs, on any device")
    options = parser.parse_args(args)
    if not options.tiny and not torch.cuda.is_available():
        print("error: this machine has no GPU; --tiny rehearses on the CPU", file=sys.stderr)
        return 2
    if options.faces and not options.faces.is_dir():
        print(f"error: --faces {options.faces}: no such folder", file=sys.stderr)
        return 2
    return measure_all(options, [name for name in parts(options) if name in (options.only or [name])])


def measure_all(options: argparse.Namespace, names: Sequence[str]) -> int:
    """Carry out the parts that are missing; print what there is, and what failed or is left."""
    deadline = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    file, now = options.out / "gpu_day.json", record([], os.getloadavg()[0]) | {"tiny": options.tiny}
    done, missing = read(file, now), {}
    for name in [name for name in names if name not in done]:
        if time.monotonic() > deadline:
            missing[name] = "not started: the same command goes on"
            continue
        start = time.monotonic()
        part = measure(name, options, deadline)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        if part.failure:
            missing[name] = part.failure
        else:
            done[name] = part
            write(file, now, done)
    rows = [row for part in done.values() for row in part.rows]
    texts = [part.text for part in done.values() if part.text]
    report = "\n\n".join([heading(now), table(rows), *texts]) + "\n"
    (options.out / "gpu_day.md").write_text(report, encoding="utf-8")
    print(report)
    for name, reason in missing.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(HERE.parent))
    raise SystemExit(main())
