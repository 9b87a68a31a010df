import asyncio

import pytest

from mtmsa_lightning.app import uploads
from mtmsa_lightning.app.uploads import Uploads


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
