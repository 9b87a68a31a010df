import asyncio
import time
from typing import Any

import pytest
from starlette.requests import Request

from mtmsa_lightning.app import guard, uploads
from mtmsa_lightning.app.uploads import Uploads, file_in_form


def test_a_photo_is_handed_out_once() -> None:
    async def kept() -> tuple[Uploads, str, str]:
        waiting = Uploads(10)
        return waiting, waiting.keep(b"same"), waiting.keep(b"same")

    waiting, one, other = asyncio.run(kept())
    assert one != other
    assert waiting.take(one) == b"same"
    assert waiting.take(one) is None
    assert waiting.take("anything") is None
    assert len(waiting) == 1


def test_a_photo_that_nobody_asks_about_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SECONDS", 0.05)

    async def wait() -> int:
        waiting = Uploads(10)
        waiting.keep(b"photo")
        assert len(waiting) == 1
        await asyncio.sleep(0.2)
        return len(waiting)

    assert asyncio.run(wait()) == 0


FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="files"%s\r\n\r\n%s\r\n'
PHOTO = PART % (b'; filename="a"', b"photo") + b"--b--\r\n"


@pytest.mark.parametrize("part", [PART % (b"", b""), PART % (b'; filename="a"', b"x")])
def test_a_form_of_many_parts_is_refused_at_the_first_too_many(part: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"a field|not one file"):
        file_in_form(FORM, part * (20 * 2**20 // len(part)))
    assert time.process_time() - begun < 1


def status(waiting: Uploads, *messages: dict[str, Any]) -> int:
    """Return how an upload is answered whose body comes in these messages, and no further one."""

    async def answered() -> int:
        left = list(messages)

        async def receive() -> dict[str, Any]:
            return left.pop(0) if left else await asyncio.sleep(60)

        scope = {"type": "http", "headers": [(b"content-type", FORM.encode())]}
        return (await waiting.receive(Request(scope, receive))).status_code

    return asyncio.run(answered())


def body(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


def test_what_is_read_counts_and_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(uploads, "MOST_BYTES", 0)
    monkeypatch.setattr(uploads, "OVERHEAD", 300)
    waiting = Uploads(10)
    assert status(waiting, body(PHOTO[:20], more=True)) == 408
    assert status(waiting, body(PHOTO[:20], more=True), {"type": "http.disconnect"}) == 400
    with waiting._reserving() as reserve:
        reserve(300)
        assert status(waiting, body(PHOTO)) == 503
    assert status(waiting, body(PHOTO)) == 200


def test_the_number_of_waiting_photos_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_PHOTOS", 1)
    waiting = Uploads(10)
    assert [status(waiting, body(PHOTO)) for _ in range(2)] == [200, 503]
