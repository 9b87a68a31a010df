"""Fork Python processes in which torch, Lightning and the package are imported already.

Importing them takes a process several seconds. ``start`` starts a server, which imports them once, and returns
a program that stands in for ``python``: see ``warm_program.py``. What a process starts by ``sys.executable``, ranks
and spawned workers for example, is such a program too.
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
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from itertools import dropwhile
from pathlib import Path
from types import ModuleType
from typing import Any

import warm_program
from warm_program import SOCKET_VARIABLE, received

PRELOADED = (
    "mtmsa_lightning.training.trainer_commands", "mtmsa_lightning.studies.crossval", "albumentations",
    "pyarrow.parquet", "torch.distributed", "tqdm",
)  # fmt: skip
MOST_FILES = 64

_running: tuple[Path, subprocess.Popen[bytes]] | None = None


def start() -> str:
    """Return the program in place of ``sys.executable``; the first call starts the server of this process."""
    global _running
    if _running is None:
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        program = folder / "python"
        program.write_text(f"#!{sys.executable} -IS\n{Path(warm_program.__file__).read_text()}")
        program.chmod(0o700)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / "socket"))
            listening.listen(64)
            command = [sys.executable, __file__, str(listening.fileno()), str(program)]
            server = subprocess.Popen(
                command, stdin=subprocess.PIPE, pass_fds=[listening.fileno()], start_new_session=True
            )
        os.environ[SOCKET_VARIABLE] = str(folder / "socket")
        _running = program, server
    return str(_running[0])


def stop() -> None:
    """End the server of this process and all that it has forked."""
    global _running
    if _running is not None:
        program, server = _running
        server.communicate()
        for file in program.parent.iterdir():
            file.unlink()
        program.parent.rmdir()
        _running = None


# ------------------------------------------------------------------ the server


def serve(listening: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork a process for every request; return the request and its files in the forked process alone."""
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    processes: dict[int, tuple[socket.socket, int]] = {}  # by the number of the connection
    ends: dict[int, int] = {}  # the number of the connection by that of the process's end
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                end(processes)
            elif key.fd == listening.fileno():
                connection, _ = listening.accept()
                size, files, *_ = socket.recv_fds(connection, 8, MOST_FILES)
                request = json.loads(received(connection, int.from_bytes(size, "big")))
                process = os.fork()
                if process == 0:
                    selector.close()
                    for each in (listening, connection, *(open_one for open_one, _ in processes.values())):
                        each.close()
                    for number in ends:
                        os.close(number)
                    return request, files
                for number in files:
                    os.close(number)
                ended = os.pidfd_open(process)
                processes[connection.fileno()], ends[ended] = (connection, process), connection.fileno()
                selector.register(connection, selectors.EVENT_READ)
                selector.register(ended, selectors.EVENT_READ)
            elif key.fd in ends:
                connection, process = processes.pop(ends.pop(key.fd))
                selector.unregister(key.fd)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                if connection in [each.fileobj for each in selector.get_map().values()]:
                    selector.unregister(connection)
                try:
                    connection.send(status.to_bytes(8, "big", signed=True))
                except OSError:  # the program was killed
                    pass
                connection.close()
            elif key.fd in processes:
                connection, process = processes[key.fd]
                numbers = connection.recv(16)
                if not numbers:  # the program was killed
                    selector.unregister(connection)
                for number in numbers or [signal.SIGKILL]:
                    os.kill(process, number)


def end(processes: dict[int, tuple[socket.socket, int]]) -> None:
    """Kill the processes and what they have started, and end."""
    for _, process in processes.values():
        try:
            os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    os._exit(0)


# ------------------------------------------------------------------ a forked process


def become(request: dict[str, Any], received_files: list[int], path: list[str]) -> None:
    """Take over environment, working directory and open files."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # read from the environment again
    os.chdir(request["cwd"])
    high = [os.dup2(number, 500 + place, inheritable=False) for place, number in enumerate(received_files)]
    for number, target in zip(high, request["files"], strict=True):
        os.dup2(number, target, inheritable=True)
        os.close(number)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", 1, "utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    tracker = multiprocessing.resource_tracker._resource_tracker  # of the server's own semaphores
    tracker._fd = tracker._pid = None
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, places), *[each for each in path if each not in places]]


def run(arguments: list[str]) -> None:
    """Do what ``python`` does with its arguments: ``-m MODULE``, ``-c CODE`` or a script."""
    first, *rest = [*dropwhile("-B".__eq__, arguments)]
    safe = bool(os.environ.get("PYTHONSAFEPATH"))
    if first == "-m":
        name, *rest = rest
        sys.argv = ["-m", *rest]
        sys.path[:0] = [] if safe else [os.getcwd()]
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif first == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        sys.path[:0] = [] if safe else [""]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), main.__dict__)
    else:
        assert not first.startswith("-"), f"an option that no test has used yet: {first}"
        sys.argv = [first, *rest]
        sys.path[:0] = [] if safe else [os.path.dirname(os.path.realpath(first))]
        runpy.run_path(first, run_name="__main__")


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


if __name__ == "__main__":
    number, program = int(sys.argv[1]), sys.argv[2]
    own_path = [os.path.dirname(os.path.abspath(__file__)), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    for each in PRELOADED:
        importlib.import_module(each)
    gc.freeze()
    sys.executable = program
    multiprocessing.spawn.set_executable(program)
    base = [each for each in sys.path if each not in own_path]
    request, files = serve(socket.socket(fileno=number))
    become(request, files, base)
    status = status_of(partial(run, request["arguments"]))
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # freeing all that the server has imported takes seconds
