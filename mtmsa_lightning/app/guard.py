"""Restrict the web server to the requests of the page itself, to the served address."""

import asyncio
import json
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Content Security Policy: the page loads nothing from other sites, and is not embedded by them."""

UPLOAD = "/gradio_api/upload"
PROGRESS = "/gradio_api/upload_progress"
PREVIEW = "/gradio_api/file="
JOIN = "/gradio_api/queue/join"
DATA = "/gradio_api/queue/data"

ROUTES = {
    "GET": rf"/|/theme\.css|/favicon\.ico|/(assets|static)(/\w[\w.+-]*)+|{PREVIEW}.*|{PROGRESS}|{DATA}",
    "HEAD": "/",
    "POST": f"{UPLOAD}|{JOIN}",
}
"""Paths that the page uses, by method; Gradio's other paths are refused."""

PASSED_ON = (b"host", b"content-type", b"accept", b"if-none-match", b"if-modified-since")
"""Request headers passed on to Gradio, which would trust others such as X-Forwarded-Host."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}

NOT_KEPT = {"Cache-Control": "no-store"}  # header of every response except for the page's own files
LARGEST_QUESTION = 2**14  # size of the largest JSON body in bytes
LONGEST_NAME = 64  # length of the longest name of an upload
BODY_SECONDS = 60  # seconds within which the body of a request must arrive

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


class TooLargeError(ValueError):
    """The body of a request is too long."""


class Guard:
    """ASGI middleware that refuses requests that the page does not make, and hides causes of errors.

    A page of another site can make a browser send requests to this machine: by links and forms, which have an
    Origin header, and by a domain that is later resolved to this machine (DNS rebinding), which is in the
    Host header. Both are refused.

    Args:
        app: The application.
        host: Name or address to listen on.
        question: Number of the only Gradio function that may be called.
        known: Whether an upload with a name is waiting; requests for others are not queued.
    """

    def __init__(self, app: "ASGIApp", host: str, question: int, known: Callable[[str], bool]) -> None:
        self.app = app
        self.names, self.any_address = names_of(host)
        self.question = question
        self.known = known

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":  # start and end of the server; there are no websockets
            return await self.app(scope, receive, send)
        refused = self._refused(scope)
        if not refused and scope["path"] == JOIN:
            from starlette.requests import ClientDisconnect, Request

            try:
                body = await body_of(Request(scope, receive), LARGEST_QUESTION)
                receive = _replay(question(body, self.question, self.known), receive)
            except ClientDisconnect:
                return None  # the client is gone
            except TimeoutError:
                refused = HTTPStatus.REQUEST_TIMEOUT
            except LookupError:
                refused = HTTPStatus.GONE
            except (ValueError, RecursionError):
                refused = HTTPStatus.BAD_REQUEST
        if refused:
            return await _plain(refused, scope, receive, send)
        scope["headers"] = [(key, value) for key, value in scope["headers"] if key in PASSED_ON]
        if scope["path"] != DATA:
            scope["query_string"] = b""  # or Gradio would read saved states and pages
        return await self.app(scope, receive, _without_causes(scope, receive, send))

    def _refused(self, scope: "Scope") -> HTTPStatus | None:
        """Return the status of a refused request; None for others."""
        path, headers = scope["path"], _single_headers(scope)
        if headers is None or {"content-length", "transfer-encoding"} <= headers.keys():
            return HTTPStatus.BAD_REQUEST
        host, origin, site = (headers.get(name, "") for name in ("host", "origin", "sec-fetch-site"))
        if not self._is_served(host):
            return HTTPStatus.MISDIRECTED_REQUEST
        if origin and origin not in (f"http://{host}", f"https://{host}"):
            return HTTPStatus.FORBIDDEN
        if site in ("cross-site", "same-site") and path != "/":  # links to the page are allowed
            return HTTPStatus.FORBIDDEN
        if scope["method"] not in ROUTES:
            return HTTPStatus.METHOD_NOT_ALLOWED
        if not re.fullmatch(ROUTES[scope["method"]], path):
            return HTTPStatus.NOT_FOUND
        if path == DATA and not re.fullmatch(rb"session_hash=[A-Za-z0-9_-]{1,64}", scope["query_string"]):
            return HTTPStatus.BAD_REQUEST
        return None

    def _is_served(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if not found:
            return False
        name = found[1].strip("[]")
        return name in self.names or (self.any_address and _is_address(name))


def address_of(host: str) -> IPv4Address | IPv6Address:
    """Return the address of a host, without its zone."""
    return ip_address(str(socket.getaddrinfo(host, None)[0][4][0]).partition("%")[0])


def names_of(host: str) -> tuple[frozenset[str], bool]:
    """Return the names by which a page on a host is reached, at any port, since a tunnel may use another one.

    The second value is whether any other numeric address is allowed, when all interfaces are served; no
    domain looks like one.
    """
    address = address_of(host)
    names = {host, str(address)}
    if address.is_loopback or address.is_unspecified:
        names |= {"localhost", "127.0.0.1", "::1"}
    if not address.is_loopback:
        names |= {socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower() for name in names), address.is_unspecified


def question(body: bytes | bytearray, function: int, known: Callable[[str], bool]) -> bytes:
    """Return a request (JSON) to Gradio's queue with only the fields that the page needs.

    Raises:
        ValueError: It is another request.
        LookupError: Its upload is not waiting.
    """
    asked = json.loads(body)
    if not isinstance(asked, dict) or asked.get("fn_index") != function:
        raise ValueError("another function")
    session, trigger, data = asked.get("session_hash"), asked.get("trigger_id"), asked.get("data")
    if not isinstance(session, str) or not _SESSION.fullmatch(session):
        raise ValueError("no session")
    if not isinstance(data, list) or len(data) != 1:
        raise ValueError("not one photo")
    photo = _photo(data[0])
    if photo is not None and not known(photo["path"]):
        raise LookupError("no such upload")
    return json.dumps(
        {
            "fn_index": function,
            "session_hash": session,
            "trigger_id": trigger if type(trigger) is int and 0 <= trigger < 2**31 else None,
            "data": [photo],
        },
        allow_nan=False,
    ).encode()


def _photo(upload: Any) -> dict[str, str] | None:
    """Return the random name of an upload and its original name."""
    if upload is None:
        return None
    if not isinstance(upload, dict) or not isinstance(upload.get("path"), str):
        raise ValueError("no upload")
    if len(upload["path"]) > LONGEST_NAME:
        raise ValueError("no name of an upload")
    known = upload.get("orig_name")
    # without the field by which Gradio would look for a file
    return {"path": upload["path"], "orig_name": known[:200] if isinstance(known, str) else ""}


async def body_of(
    request: "Request", most: int, reserve: Callable[[int], None] = lambda length: None
) -> bytearray:
    """Return the body of a request; ``reserve`` gets the length of each part first, and may raise.

    Raises:
        TooLargeError: It is longer than ``most`` bytes.
        TimeoutError: It was not complete after ``BODY_SECONDS``.
    """
    body = bytearray()
    async with asyncio.timeout(BODY_SECONDS):
        async for part in request.stream():
            if len(body) + len(part) > most:
                raise TooLargeError
            reserve(len(part))
            body += part
    return body


def _single_headers(scope: "Scope") -> dict[str, str] | None:
    """Return headers by name, in lower case; None if one that is checked is given twice."""
    pairs = [(key.decode("latin-1"), value.decode("latin-1").lower()) for key, value in scope["headers"]]
    names = [key for key, _ in pairs]
    checked = ("host", "origin", "sec-fetch-site")
    return dict(pairs) if all(names.count(name) <= 1 for name in checked) else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _replay(body: bytes, receive: "Receive") -> "Receive":
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> "Message":
        return waiting.pop() if waiting else await receive()

    return replayed


async def _plain(status: int, scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Respond with a status and its name."""
    from starlette.responses import PlainTextResponse

    status = HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else HTTPStatus(status)
    text = f"{status.phrase}\n"
    if status == HTTPStatus.MISDIRECTED_REQUEST:
        text = "The page is not served under this name: open it by the address that `mtmsa app` printed.\n"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        text = "Too many photos are waiting: try again in a few minutes.\n"
    headers = HEADERS | NOT_KEPT
    if status == HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"
    await PlainTextResponse(text, status, headers)(scope, receive, send)


def _without_causes(scope: "Scope", receive: "Receive", send: "Send") -> "Send":
    """Return a ``send`` that adds headers and replaces Gradio's errors by plain texts."""
    from starlette.datastructures import MutableHeaders

    answered = False

    async def guarded(message: "Message") -> None:
        nonlocal answered
        if not answered and message["type"] == "http.response.start":
            answered = message["status"] >= HTTPStatus.BAD_REQUEST
            if answered:
                await _plain(message["status"], scope, receive, send)
            else:
                own = scope["path"] == "/" or scope["path"].startswith("/gradio_api/")
                MutableHeaders(scope=message).update(HEADERS | (NOT_KEPT if own else {}))
        if not answered:
            await send(message)

    return guarded
