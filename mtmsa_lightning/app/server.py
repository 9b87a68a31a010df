"""Serve the page, by default on this machine only, without storing photos."""

import asyncio
import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.text import install
from mtmsa_lightning.app.guard import PREVIEW, PROGRESS, UPLOAD, Guard, address_of
from mtmsa_lightning.app.page import TITLE, build
from mtmsa_lightning.app.uploads import Uploads
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.reports.html import STYLE
from mtmsa_lightning.settings.defaults import HOST, MAX_MEGABYTES, PORTS

if TYPE_CHECKING:
    import fastapi
    import uvicorn

log = logging.getLogger(__name__)

CONNECTIONS = 400  # maximum of connections, more than fifty browsers open; further ones are refused

_GRADIOS_TAGS = re.compile(rb"""\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>""")

_HEAD = (
    f"<title>{TITLE}</title>"
    '<meta name="description" content="mtmsa-lightning: facial age estimation. Photos are not stored.">'
)

_DONE = 'data: {"msg": "done"}\n\n'

_WITHOUT_GRADIO = f"`mtmsa app` needs Gradio: {install('app')}"


@contextmanager
def private_folder() -> Iterator[str]:
    """Make a private folder for Gradio's files (not for uploads), which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mtmsa-app-", ignore_cleanup_errors=True) as folder:
        before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield folder
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def need_gradio() -> None:
    """Import Gradio with its telemetry turned off; raise ConfigError if it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{_WITHOUT_GRADIO} ({error})") from error


def application(
    estimator: AgeEstimator, host: str = HOST, max_megabytes: float = MAX_MEGABYTES
) -> "fastapi.FastAPI":
    """Return the web application; call it within :func:`private_folder`."""
    need_gradio()

    async def made() -> "fastapi.FastAPI":
        return _mounted(estimator, host, int(max_megabytes * 2**20))

    # without a running event loop, Gradio makes some and never closes them
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(made())).result()


def _mounted(estimator: AgeEstimator, host: str, max_bytes: int) -> "fastapi.FastAPI":
    import fastapi
    import gradio

    app = fastapi.FastAPI(openapi_url=None)
    uploads = Uploads(max_bytes)
    page = build(estimator, uploads)

    # replaces Gradio's routes, which store files under hashes of their content
    app.add_route(UPLOAD, uploads.receive, ["POST"])
    app.add_route(PROGRESS, lambda _: fastapi.Response(_DONE, media_type="text/event-stream"))
    app.add_route(f"{PREVIEW}{{path:path}}", lambda _: fastapi.Response(status_code=204))  # never sent back

    @app.middleware("http")
    async def name_page(request: fastapi.Request, call_next: Any) -> fastapi.Response:
        response: fastapi.Response = await call_next(request)
        named = request.url.path == "/" and response.status_code == 200
        return await _with_own_head(response) if named else response

    app.add_middleware(Guard, host=host, question=next(iter(page.fns)), known=uploads.__contains__)

    system = ["system-ui", "sans-serif"]
    gradio.mount_gradio_app(
        app, page, path="", footer_links=[], run_history=False, ssr_mode=False, pwa=False,
        mcp_server=False, show_error=False, max_file_size=max_bytes, css_paths=[STYLE],
        theme=gradio.themes.Base(font=system, font_mono=["monospace"]),
    )  # fmt: skip
    return app


async def _with_own_head(response: Any) -> "fastapi.Response":
    """Replace Gradio's title and description, which link previews show."""
    import fastapi

    html = b"".join([part async for part in response.body_iterator])
    html = _GRADIOS_TAGS.sub(b"", html).replace(b"<head>", f"<head>{_HEAD}".encode(), 1)
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return fastapi.Response(html, response.status_code, headers)


def listen(host: str, port: int | None) -> socket.socket:
    """Open the socket of the page; raise ConfigError if the address or port cannot be used."""
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: ports are numbers from 0 to 65535")
    failure: OSError | None = None
    for number in PORTS if port is None else [port]:
        try:
            family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, number), family=family)
        except OSError as error:
            failure = error
    where = f"{host}, port {port if port is not None else f'{PORTS[0]} to {PORTS[-1]}'}"
    raise ConfigError(f"cannot serve on {where}: {failure}; give another --host or --port")


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine only."""
    return address_of(host).is_loopback


def server(app: "fastapi.FastAPI") -> "uvicorn.Server":
    """Return the server of an application; ``run(sockets=[...])`` serves until interrupted."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=2, ws="none", proxy_headers=False,
            server_header=False, limit_concurrency=CONNECTIONS,
        )
    )  # fmt: skip


def serve(
    estimator: AgeEstimator, host: str = HOST, port: int | None = None, max_mb: float = MAX_MEGABYTES
) -> None:
    """Serve the page on a port, by default the first free one of ``PORTS``, until the process is ended.

    Files may have up to ``max_mb`` MB (2^20 bytes). Only the default host is limited to this machine.

    Raises:
        ConfigError: Gradio is not installed, or the address cannot be used.
    """
    need_gradio()
    with listen(host, port) as opened, private_folder():
        if not is_loopback(host):
            log.warning(
                "everybody who reaches this machine can use the page: there is no password and no encryption"
            )
        app = application(estimator, host, max_mb)
        address = f"[{host}]" if ":" in host else host
        print(f"http://{address}:{opened.getsockname()[1]}    (Ctrl+C ends it)", flush=True)
        server(app).run(sockets=[opened])
