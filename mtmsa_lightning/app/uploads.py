"""Photos between their upload and the question about them: in memory, and never in a file."""

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

SECONDS = 600
"""How long an upload waits that nobody asks about; a queue of photos may take minutes."""

MOST_BYTES = 2**30
"""Size of all uploads that wait or are read at a time: fifty of the largest."""

MOST_PHOTOS = 256
"""Number of uploads that wait at a time."""

OVERHEAD = 2**16
"""Bytes of a form beside its file."""


class FullError(Exception):
    """Too many uploads wait."""


class Uploads:
    """Photos that wait, by names that cannot be guessed; each is handed out once.

    Args:
        max_bytes: Size of the largest file that is taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._waiting: dict[str, bytes] = {}
        self._reading = 0

    def __len__(self) -> int:
        """Return how many photos wait."""
        return len(self._waiting)

    def __contains__(self, name: str) -> bool:
        """Return whether a photo of this name waits."""
        return name in self._waiting

    def take(self, name: str) -> bytes | None:
        """Return a photo and forget it; None if it is not there."""
        return self._waiting.pop(name, None)

    async def receive(self, request: "Request") -> "Response":
        """Answer a form with one file by the name to ask by, in the list that Gradio's pages expect."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, Response

        status = HTTPStatus.BAD_REQUEST
        try:
            with self._reserving() as reserve:
                body = await body_of(request, self.max_bytes + OVERHEAD, reserve)
                kind = request.headers.get("Content-Type", "")
                photo = await asyncio.to_thread(file_in_form, kind, body)
                reserve(0)  # others may have come meanwhile
            if len(photo) <= self.max_bytes:
                return JSONResponse([self.keep(photo)])
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        except TooLargeError:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        except TimeoutError:
            status = HTTPStatus.REQUEST_TIMEOUT
        except FullError:
            status = HTTPStatus.SERVICE_UNAVAILABLE
        except (ValueError, ClientDisconnect):  # the latter reads no answer
            pass
        return Response(status_code=status)

    @contextmanager
    def _reserving(self) -> Iterator[Callable[[int], None]]:
        """Count what is read as long as it is no photo yet; the function raises where nothing more fits."""
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
        """Keep a photo for some minutes, within an event loop, and return its name."""
        name = secrets.token_urlsafe(16)
        self._waiting[name] = photo
        asyncio.get_running_loop().call_later(SECONDS, self._waiting.pop, name, None)
        return name


def file_in_form(content_type: str, body: bytes | bytearray) -> bytes:
    """Return the content of the only file of a form, without writing it anywhere.

    Starlette's parser puts files above 1 MB on a disk.

    Raises:
        ValueError: It is no form with one file, or the file is empty.
    """
    from python_multipart.multipart import FormParser, parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise ValueError("no form with files")
    files: list[Any] = []

    def on_field(field: Any) -> None:  # at once: a form may have a million parts
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
