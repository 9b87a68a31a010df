"""Fork Python processes in which torch, Lightning and the package are imported already.

Importing them takes a process several seconds. ``start`` starts a server, which imports them once for all
workers of pytest-xdist, and returns a program that stands in for ``python``: see ``warm_program.py``. What a
process starts by ``sys.executable``, ranks and spawned workers for example, is such a program too.
"""

import atexit
import gc
import importlib
import json
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import dropwhile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import warm_program
from filelock import FileLock
from warm_program import SOCKET_VARIABLE, received

PRELOADED = (
    "mtmsa_lightning.training.trainer_commands", "mtmsa_lightning.studies.crossval", "albumentations",
    "pyarrow.parquet", "torch.distributed", "tqdm",
)  # fmt: skip
MOST_FILES = 64


class Running(NamedTuple):
    """The server, of which this process has one end of a pipe: it ends when all ends are closed."""

    folder: Path
    end: int
    process: subprocess.Popen[bytes] | None
    """None if another worker of pytest-xdist has started it."""


_running: Running | None = None


def start() -> str:
    """Return the program in place of ``sys.executable``; the first call of all workers starts the server."""
    global _running
    if _running is None:
        session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
        shared = Path(tempfile.gettempdir(), f"warm-{session}")
        folder = shared if session else Path(tempfile.mkdtemp(prefix="warm-"))
        with FileLock(f"{folder}.lock"):
            try:
                end, process = os.open(folder / "end", os.O_WRONLY | os.O_NONBLOCK), None
            except OSError:  # none is running
                end, process = _start_server(folder)
        _running = Running(folder, end, process)
        os.environ[SOCKET_VARIABLE] = str(folder / "socket")
    return str(_running.folder / "python")


def _start_server(folder: Path) -> tuple[int, subprocess.Popen[bytes]]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    program = folder / "python"
    program.write_text(f"#!{sys.executable} -IS\n{Path(warm_program.__file__).read_text()}")
    program.chmod(0o700)
    os.mkfifo(folder / "end")
    read_end = os.open(folder / "end", os.O_RDONLY | os.O_NONBLOCK)
    end = os.open(folder / "end", os.O_WRONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen(64)
        command = [sys.executable, __file__, str(listening.fileno()), str(program)]
        server = subprocess.Popen(
            command, stdin=read_end, pass_fds=[listening.fileno()], start_new_session=True
        )
    os.close(read_end)
    return end, server


def stop() -> None:
    """Close the end of this process; the worker that has started the server waits for the others."""
    global _running
    if _running is not None:
        folder, end, server = _running
        _running = None
        os.close(end)
        if server is not None:
            server.wait()
            shutil.rmtree(folder)
            Path(f"{folder}.lock").unlink(missing_ok=True)


# ------------------------------------------------------------------ the server


class Server:
    """Forks a process for every program that connects, and ends when nobody has its standard input open."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.selector = selectors.DefaultSelector()
        self.programs: dict[socket.socket, int] = {}  # the processes
        self.ends: dict[int, socket.socket] = {}  # by a file that is readable when the process has ended
        for each in (listening, 0):
            self.selector.register(each, selectors.EVENT_READ)

    def serve(self) -> tuple[dict[str, Any], list[int]]:
        """Serve until the end; return in a forked process: the request and its files."""
        while True:
            for key, _ in self.selector.select():
                if key.fd == 0:
                    self.end()
                elif key.fileobj is self.listening:
                    if forked := self.fork():
                        return forked
                elif key.fd in self.ends:
                    self.report(key.fd)
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self.programs:
                    self.relay(key.fileobj)

    def fork(self) -> tuple[dict[str, Any], list[int]] | None:
        """Fork a process; return its request and files there, None here."""
        program, _ = self.listening.accept()
        size, files, *_ = socket.recv_fds(program, 8, MOST_FILES)
        try:
            request = json.loads(received(program, int.from_bytes(size, "big")))
        except (ConnectionError, ValueError):  # it was killed
            program.close()
            request, process = {}, None
        else:
            process = os.fork()
        if process == 0:
            for each in (self.selector, self.listening, program, *self.programs):
                each.close()
            for number in self.ends:
                os.close(number)
            return request, files
        for number in files:
            os.close(number)
        if process is None:
            return None
        ended = os.pidfd_open(process)
        self.programs[program], self.ends[ended] = process, program
        for each in (program, ended):
            self.selector.register(each, selectors.EVENT_READ)
        return None

    def report(self, ended: int) -> None:
        """Send the exit status of a process to its program."""
        self.selector.unregister(ended)
        os.close(ended)
        program = self.ends.pop(ended)
        status = os.waitstatus_to_exitcode(os.waitpid(self.programs.pop(program), 0)[1])
        with suppress(KeyError):  # it has been killed
            self.selector.unregister(program)
        with suppress(OSError), program:
            program.send(status.to_bytes(8, "big", signed=True))

    def relay(self, program: socket.socket) -> None:
        """Send a process the signals of its program; SIGKILL where the program was killed."""
        numbers = program.recv(16)
        if not numbers:
            self.selector.unregister(program)
        for number in numbers or [signal.SIGKILL]:
            os.kill(self.programs[program], number)

    def end(self) -> None:
        """Kill all processes with what they have started, and end."""
        for process in self.programs.values():
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        os._exit(0)


# ------------------------------------------------------------------ a forked process


def become(request: dict[str, Any], received_files: list[int], path: list[str]) -> None:
    """Take over environment, working directory and open files."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # read from the environment again
    os.chdir(request["cwd"])
    high = [os.dup2(number, 500 + place, inheritable=False) for place, number in enumerate(received_files)]
    for number, target in zip(high, request["files"], strict=True):
        os.dup2(number, target, inheritable=True)
        os.close(number)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", 1, "utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    tracker = multiprocessing.resource_tracker._resource_tracker  # of the server's own semaphores
    tracker._fd = tracker._pid = None
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, places), *[each for each in path if each not in places]]


def run(arguments: list[str]) -> None:
    """Do what ``python`` does with its arguments: ``-m MODULE``, ``-c CODE`` or a script."""
    first, *rest = [*dropwhile("-B".__eq__, arguments)]
    if first in ("-m", "-c"):
        (what, *rest), place = rest, {"-m": str(Path.cwd()), "-c": ""}[first]
    else:
        assert not first.startswith("-"), f"an option that no test has used yet: {first}"
        what, place = first, str(Path(first).resolve().parent)
    sys.argv = [first, *rest]
    sys.path[:0] = [] if os.environ.get("PYTHONSAFEPATH") else [place]
    if first == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif first == "-c":
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)
    else:
        runpy.run_path(what, run_name="__main__")


def status_of(work: Callable[[], None]) -> int:
    """Return the exit status that Python has after this work; print what it prints."""
    try:
        work()
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 1
    return 0


def main(listening: socket.socket, program: str) -> None:
    """Import all, and serve; in a forked process, do its work and end."""
    own = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    path = [each for each in sys.path if each not in own]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # what is not looked at stays shared
    sys.executable = program
    multiprocessing.spawn.set_executable(program)
    request, files = Server(listening).serve()
    become(request, files, path)
    status = status_of(partial(run, request["arguments"]))
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # freeing all that the server has imported takes seconds


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
