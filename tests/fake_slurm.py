"""Commands of SLURM on this machine, for tests: sbatch, srun, squeue, scontrol requeue and scancel.

Each is a link to this file. ``FAKE_SLURM`` is the folder of the queue: a file for each job, with the process
group of its step.
"""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")


def install(folder, monkeypatch):
    """Put the programs on the path; return the folder of the queue."""
    queue = folder / "queue"
    queue.mkdir(parents=True)
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f"#!{sys.executable} -IS\n" + Path(__file__).read_text())
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_SLURM", str(queue))
    return queue


def sbatch(queue, script):
    text = Path(script).read_text()
    number = str(100 + len(list(queue.glob("*.sh"))))
    (queue / f"{number}.sh").write_text(text)
    array = re.search(r"--array=0-(\d+)", text)
    for index in range(int(array[1]) + 1) if array else [None]:
        name = number if index is None else f"{number}_{index}"
        (queue / name).touch()
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.Popen([__file__, "run", name], start_new_session=True, **nowhere)
    print(f"Submitted batch job {number}")


def run(queue, name):
    number, _, index = name.partition("_")
    variables = {"SLURM_JOB_ID": number + index, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    if index:
        variables |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    again = True
    while again:
        subprocess.run(["bash", queue / f"{number}.sh"], env={**os.environ, **variables, "FAKE_NAME": name})
        again = (queue / f"{name}.requeue").exists()
        (queue / f"{name}.requeue").unlink(missing_ok=True)
    (queue / name).unlink()


def srun(queue, *args):
    options = [place for place, arg in enumerate(args) if arg.startswith("--")]
    output = args[args.index("--output") + 1]
    command = args[max(place + (args[place] == "--output") for place in options) + 1 :]
    command = [part for part in command if part]
    name = os.environ["FAKE_NAME"]
    for mark, value in {"%A_%a": name, "%j": name, "%t": "0"}.items():
        output = output.replace(mark, value)
    with Path(output).open("a") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, "SLURM_PROCID": "0"}, start_new_session=True
        )
        (queue / name).write_text(str(process.pid))
        sys.exit(process.wait())


def squeue(queue, *args):
    print(*(file.name for file in queue.iterdir() if not file.suffix), sep="\n")


def scontrol(queue, verb, name):
    assert verb == "requeue"
    (queue / f"{name}.requeue").touch()


def scancel(queue, name, number="--signal=TERM"):
    os.killpg(int((queue / name).read_text()), getattr(signal, f"SIG{number.partition('=')[2]}"))


if __name__ == "__main__":
    here, arguments = Path(os.environ["FAKE_SLURM"]), sys.argv[1:]
    if arguments[:1] == ["run"]:
        run(here, *arguments[1:])
    else:
        globals()[Path(sys.argv[0]).name](here, *arguments)
