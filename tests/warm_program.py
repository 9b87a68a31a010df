"""What stands in for ``python``: have the server of ``warm_server.py`` fork a process, and end as it ends.

The process has this program's arguments, environment, working directory and open files. It gets the signals
that this program gets, and is killed with it. Only the standard library's quickest modules are imported.
"""

import json
import os
import signal
import socket

SOCKET_VARIABLE = "WARM_SERVER_SOCKET"
RELAYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


def main(arguments: list[str]) -> None:
    """Run the process and end with its exit status, or by the signal that has ended it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)  # until the request is sent
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[SOCKET_VARIABLE])
    for number in RELAYED:
        signal.signal(number, lambda number, _: connection.send(bytes([number])))
    files = [number for number in open_files() if number != connection.fileno()]
    request = {
        "arguments": arguments, "environment": dict(os.environ), "cwd": os.getcwd(),  # noqa: PTH109
        "files": files,
    }  # fmt: skip
    content = json.dumps(request).encode()
    socket.send_fds(connection, [len(content).to_bytes(8, "big")], files)
    connection.sendall(content)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, RELAYED)
    for number in files[3:]:
        os.close(number)
    status = int.from_bytes(received(connection, 8), "big", signed=True)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def open_files() -> list[int]:
    """Return the numbers of the open files in order."""
    numbers = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            os.fstat(int(name))
        except OSError:  # of the listing itself
            continue
        numbers.append(int(name))
    return sorted(numbers)


def received(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes.

    Raises:
        ConnectionError: There are fewer.
    """
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ConnectionError("the other end was closed")
        content += part
    return content


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
