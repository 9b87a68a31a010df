"""Uploaded photos, in memory only, until they are predicted."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mtmsa_lightning.app.guard import TooLargeError, body_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SECONDS = 600  # seconds until an unused upload is dropped; a queue of photos may take minutes
MOST_BYTES = 2**30  # maximum size of all uploads together, fifty of the largest
MOST_PHOTOS = 256  # maximum of waiting uploads
OVERHEAD = 2**16  # bytes of a form besides its file


class FullError(Exception):
    """Too many uploads are waiting."""


class Uploads:
    """Waiting photos of at most ``max_bytes`` each, by random names; each is returned once."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._waiting: dict[str, bytes] = {}
        self._reading = 0

    def __len__(self) -> int:
        """Return the number of waiting photos."""
        return len(self._waiting)

    def __contains__(self, name: str) -> bool:
        """Return whether a photo with this name is waiting."""
        return name in self._waiting

    def take(self, name: str) -> bytes | None:
        """Remove and return a photo; None if it is not there."""
        return self._waiting.pop(name, None)

    async def receive(self, request: "Request") -> "Response":
        """Keep the file of a form and answer with its name, in a list as Gradio's pages expect."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, Response

        status = HTTPStatus.BAD_REQUEST
        try:
            with self._reserving() as reserve:
                body = await body_of(request, self.max_bytes + OVERHEAD, reserve)
                kind = request.headers.get("Content-Type", "")
                photo = await asyncio.to_thread(file_in_form, kind, body)
                reserve(0)  # other uploads may have arrived
            if len(photo) <= self.max_bytes:
                return JSONResponse([self.keep(photo)])
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        except TooLargeError:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        except TimeoutError:
            status = HTTPStatus.REQUEST_TIMEOUT
        except FullError:
            status = HTTPStatus.SERVICE_UNAVAILABLE
        except (ValueError, ClientDisconnect):  # a disconnected client reads no answer
            pass
        return Response(status_code=status)

    @contextmanager
    def _reserving(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of an incomplete upload; the function raises FullError above the limit."""
        held = 0

        def reserve(length: int) -> None:
            nonlocal held
            size = sum(map(len, self._waiting.values())) + self._reading + length
            if size > max(MOST_BYTES, self.max_bytes + OVERHEAD) or len(self) >= MOST_PHOTOS:
                raise FullError
            held += length
            self._reading += length

        try:
            yield reserve
        finally:
            self._reading -= held

    def keep(self, photo: bytes) -> str:
        """Keep a photo for ``SECONDS``, within an event loop, and return its name."""
        name = secrets.token_urlsafe(16)
        self._waiting[name] = photo
        asyncio.get_running_loop().call_later(SECONDS, self._waiting.pop, name, None)
        return name


def file_in_form(content_type: str, body: bytes | bytearray) -> bytes:
    """Return the content of the only file of a form, in memory.

    Starlette's parser would write files above 1 MB to a disk.

    Raises:
        ValueError: It is not a form with one file, or the file is empty.
    """
    from python_multipart.multipart import FormParser, parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise ValueError("no form with files")
    files: list[Any] = []

    def on_field(field: Any) -> None:  # before further parts, of which there may be a million
        raise ValueError("a field")

    def on_file(file: Any) -> None:
        if files or file.field_name != b"files" or not file.size:
            raise ValueError("not one file")
        files.append(file)

    parser = FormParser(
        kind.decode(), on_field, on_file, boundary=options[b"boundary"],
        config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},
    )  # fmt: skip
    parser.write(bytes(body))
    parser.finalize()
    if not files:
        raise ValueError("not one file")
    content: bytes = files[0].file_object.getvalue()
    return content
