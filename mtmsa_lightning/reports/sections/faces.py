"""The best, the worst and the most uncertain faces."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning.evaluation.shown_faces import faces_to_look_at
from mtmsa_lightning.reports.html import Page, Picture
from mtmsa_lightning.reports.report_data import Material

Images = Callable[[str], NDArray[np.uint8]]
"""Returns the face of an id as the network sees it, RGB, ``(height, width, 3)``."""


def add_section(report: Material, images: Images | None) -> None:
    """Add the best, the worst and the most uncertain faces; as a list if ``images`` is None."""
    chosen = {kind: rows for kind, rows in faces_to_look_at(report.predictions).items() if len(rows)}
    if not chosen:
        return
    report.write_table("faces", pd.concat(chosen, names=["kind"]).reset_index("kind"))
    with report.page.private():
        _show_faces(report.page, chosen, images)


def _show_faces(page: Page, chosen: dict[str, pd.DataFrame], images: Images | None) -> None:
    page.section("Faces to look at")
    if images is not None:
        page.text(
            "This page shows photos of people. The terms of their dataset may forbid passing them on: "
            "`mtmsa evaluate --faces false` writes a page without photos.",
            "warning",
        )
    for kind, rows in chosen.items():
        page.text(f"{kind.capitalize()}: true age, prediction, and its 90 % interval, in years")
        texts = [
            f"true {face['label']}, predicted {face['prediction']:z.1f}"
            f"{_interval(face['low90'], face['high90'])}"
            for face in rows.to_dict("records")
        ]
        if images is None:
            page.table(pd.DataFrame({"id": rows["id"], "age": texts}))
        else:
            named = zip(rows["id"], texts, strict=True)
            page.tiles([Picture.from_pixels(images(name), f"{text}; {name}") for name, text in named])


def _interval(low: float, high: float) -> str:
    return f" ({low:z.0f} to {high:z.0f})" if low == low else ""
