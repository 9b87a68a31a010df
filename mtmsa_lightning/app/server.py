"""Serving the page: on this machine by default, without any other one, and without leaving a photo behind."""

import asyncio
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from mtmsa_lightning.app.page import STYLE, TITLE, build
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.wording import install

if TYPE_CHECKING:
    import fastapi
    import uvicorn

log = logging.getLogger(__name__)

MAX_MEGABYTES = 20.0
"""Size of the largest file that is taken."""

PORTS = range(7860, 7960)
"""Ports that are tried where none is named; Gradio's own."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""Content Security Policy: browsers themselves refuse to load anything for the page from elsewhere."""

_GRADIOS_TAGS = re.compile(rb"""\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>""")

_HEAD = (
    f"<title>{TITLE}</title>"
    '<meta name="description" content="mtmsa-lightning: facial age estimation. Photos are not stored.">'
)

_WITHOUT_GRADIO = f"`mtmsa app` needs Gradio: {install('app')}"


@contextmanager
def ended_cleanly() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl+C does: by an exception, so that everything is cleaned up."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def private_folder() -> Iterator[str]:
    """Make the folder that uploads pass through: nobody else can read it, and it is gone at the end.

    Where the machine has a folder in memory (``/dev/shm``), uploads never reach a disk.
    """
    memory = "/dev/shm"
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mtmsa-app-", dir=place, ignore_cleanup_errors=True) as folder:
        before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield folder
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def need_gradio() -> None:
    """Import Gradio, told to be silent towards its makers.

    Raises:
        ConfigError: If it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{_WITHOUT_GRADIO} ({error})") from error


def application(estimator: AgeEstimator, max_megabytes: float = MAX_MEGABYTES) -> "fastapi.FastAPI":
    """Make the web application; within :func:`private_folder`.

    Args:
        estimator: What answers.
        max_megabytes: Size in MB (2^20 bytes) of the largest file that is taken.
    """
    need_gradio()

    async def made() -> "fastapi.FastAPI":
        return _mounted(estimator, max_megabytes)

    with ThreadPoolExecutor(1) as pool:  # where no event loop runs, Gradio makes some and never closes them
        return pool.submit(lambda: asyncio.run(made())).result()


def _mounted(estimator: AgeEstimator, max_megabytes: float) -> "fastapi.FastAPI":
    import fastapi
    import gradio

    app = fastapi.FastAPI(openapi_url=None)

    @app.middleware("http")
    async def confine(request: fastapi.Request, call_next: Any) -> fastapi.Response:
        if "/file=" in request.url.path:  # the preview of an upload: a photo is never given out again
            return fastapi.Response(status_code=204)
        response: fastapi.Response = await call_next(request)
        if request.url.path == "/" and response.status_code == 200:
            response = await _with_own_head(response)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    system = ["system-ui", "sans-serif"]
    gradio.mount_gradio_app(
        app, build(estimator), path="", footer_links=[], run_history=False, ssr_mode=False, pwa=False,
        mcp_server=False, max_file_size=int(max_megabytes * 2**20), css_paths=[STYLE],
        theme=gradio.themes.Base(font=system, font_mono=["monospace"]),
    )  # fmt: skip
    return app


async def _with_own_head(response: Any) -> "fastapi.Response":
    """Give the page a title and a description of its own in place of Gradio's, which link previews show."""
    import fastapi

    html = b"".join([part async for part in response.body_iterator])
    html = _GRADIOS_TAGS.sub(b"", html).replace(b"<head>", f"<head>{_HEAD}".encode(), 1)
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return fastapi.Response(html, response.status_code, headers)


def listen(host: str, port: int | None) -> socket.socket:
    """Open the socket that the page is served on.

    Args:
        host: Name or address of this machine's interface.
        port: Port; None takes the first free one of ``PORTS``.

    Raises:
        ConfigError: If the address is not this machine's, or the port is taken or not allowed.
    """
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: ports are numbers from 0 to 65535")
    fault: OSError | None = None
    for number in PORTS if port is None else [port]:
        try:
            family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, number), family=family)
        except OSError as error:
            fault = error
    where = f"{host}, port {port if port is not None else f'{PORTS[0]} to {PORTS[-1]}'}"
    raise ConfigError(f"cannot serve on {where}: {fault}; give another --host or --port")


def is_loopback(host: str) -> bool:
    """Return whether only this machine itself reaches an address."""
    address = socket.getaddrinfo(host, None)[0][4][0]
    return ip_address(str(address).partition("%")[0]).is_loopback


def server(app: "fastapi.FastAPI") -> "uvicorn.Server":
    """Return the server of an application; ``run(sockets=[...])`` serves until it is interrupted."""
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))


def serve(
    estimator: AgeEstimator, host: str = "127.0.0.1", port: int | None = None, max_mb: float = MAX_MEGABYTES
) -> None:
    """Serve the page until the process is interrupted or terminated.

    Args:
        estimator: What answers.
        host: Where to listen; only this machine reaches the default.
        port: Port; None takes the first free one of ``PORTS``.
        max_mb: Size in MB of the largest file that is taken.

    Raises:
        ConfigError: If Gradio is not installed, or the address cannot be used.
    """
    need_gradio()
    with ended_cleanly(), listen(host, port) as opened, private_folder():
        if not is_loopback(host):
            log.warning("everybody who reaches this machine can use the page: no password, no encryption")
        app = application(estimator, max_mb)
        address = f"[{host}]" if ":" in host else host
        print(f"http://{address}:{opened.getsockname()[1]}    (Ctrl+C ends it)", flush=True)
        server(app).run(sockets=[opened])
