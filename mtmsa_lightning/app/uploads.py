"""Photos between their upload and the question about them: in memory, and never in a file."""

import asyncio
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mtmsa_lightning.app.guard import TooLargeError, limited

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SECONDS = 600
"""How long an upload waits that nobody asks about; a queue of photos may take minutes."""

MOST_BYTES = 2**30
"""Size of all uploads that wait at a time."""

OVERHEAD = 2**16
"""Bytes of a form beside its file."""


class Uploads:
    """Photos that wait, by names that cannot be guessed; each is handed out once.

    Args:
        max_bytes: Size of the largest file that is taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._waiting: dict[str, bytes] = {}

    def __len__(self) -> int:
        """Return how many photos wait."""
        return len(self._waiting)

    def take(self, name: str) -> bytes | None:
        """Return a photo and forget it; None if it is not there."""
        return self._waiting.pop(name, None)

    async def receive(self, request: "Request") -> "Response":
        """Answer a form with one file by the name to ask by, in the list that Gradio's pages expect."""
        from starlette.responses import JSONResponse, Response

        largest = self.max_bytes + OVERHEAD
        try:
            body = b"".join([part async for part in limited(request, largest)])
            photo = file_in_form(request.headers.get("Content-Type", ""), body)
        except TooLargeError:
            return Response(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except ValueError:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        if len(photo) > self.max_bytes:
            return Response(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if sum(map(len, self._waiting.values())) + len(photo) > max(MOST_BYTES, self.max_bytes):
            return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        return JSONResponse([self.keep(photo)])

    def keep(self, photo: bytes) -> str:
        """Keep a photo for some minutes, within an event loop, and return its name."""
        name = secrets.token_urlsafe(16)
        self._waiting[name] = photo
        asyncio.get_running_loop().call_later(SECONDS, self._waiting.pop, name, None)
        return name


def file_in_form(content_type: str, body: bytes) -> bytes:
    """Return the content of the only file of a form, without writing it anywhere.

    Starlette's parser puts files above 1 MB on a disk.

    Raises:
        ValueError: It is no form with one file.
    """
    from python_multipart.multipart import FormParser, parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise ValueError("no form with files")
    fields: list[Any] = []
    files: list[Any] = []
    parser = FormParser(
        kind.decode(), fields.append, files.append, boundary=options[b"boundary"],
        config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},
    )  # fmt: skip
    parser.write(body)
    parser.finalize()
    if fields or len(files) != 1 or files[0].field_name != b"files":
        raise ValueError("not one file")
    content: bytes = files[0].file_object.getvalue()
    return content
