import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from mtmsa_lightning.app.page import (
    AS_RELEASED,
    LIMITS,
    NO_ATTENTION,
    NOT_STORED,
    OTHERWISE_CROPPED,
    build,
    describe,
)
from mtmsa_lightning.app.uploads import Uploads
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.reports.html import STYLE, TEMPLATES
from mtmsa_lightning.runs.ensemble import Ensemble

NewEstimator = Callable[..., AgeEstimator]


def built(estimator: AgeEstimator) -> Any:
    async def page() -> Any:
        return build(estimator, Uploads(1))

    return asyncio.run(page())


def html_of(estimator: AgeEstimator) -> str:
    parts = built(estimator).blocks.values()
    return "".join(str(each.value) for each in parts if type(each).__name__ == "HTML")


def test_the_model_is_described_by_its_own_records(estimator: AgeEstimator) -> None:
    facts = describe(estimator)
    assert facts["Trained on"] == "44,106 faces of morph"
    assert facts["Protocol"] == "subject_exclusive, fold 2"
    assert facts["Labels"] == "as <released>"
    assert facts["Faces"] == "faces are detected and aligned with a margin of 0.25, as in training"
    assert facts["Input"] == "64 x 64 pixels"
    assert facts["Gender classes"] == "male, female"
    assert facts["Race classes"] == "white, black, asian"
    assert facts["Calibration"] == estimator.model.calibration.describe()
    assert "MORPH Album II, whose licence allows non-commercial research only" in facts["Terms of use"]
    assert facts["Unsure faces"] == "a face is unsure if its 90 % interval is wider than 1 year"
    assert facts["Decision at 18"].startswith("18 or older: yes from an estimate of 60 years, no below an ")
    assert "at most 1 % of people aged 13 to 17 get a yes" in facts["Decision at 18"]


def test_a_network_without_records_says_so(estimator_of: NewEstimator) -> None:
    model = estimator_of().model
    model.provenance = None
    facts = describe(AgeEstimator(model, device="cpu"))
    assert facts["Trained on"] == "unknown data"
    assert facts["Calibration"].startswith("none: ")
    assert facts["Unsure faces"] == "no threshold was set, so no face is called unsure"
    assert facts["Faces"] == OTHERWISE_CROPPED


def test_faces_are_cropped_like_an_aligned_release_where_it_was_trained_on(
    estimator_of: NewEstimator,
) -> None:
    model = estimator_of().model
    model.provenance = {"dataset": "utkface", "preparation": None}
    assert describe(AgeEstimator(model, device="cpu"))["Faces"] == AS_RELEASED


def test_classes_that_were_not_trained_are_not_named(estimator_of: NewEstimator) -> None:
    model = estimator_of().model
    model.provenance |= {"labels": ["age", "exact", "gender"]}
    facts = describe(AgeEstimator(model, device="cpu"))
    assert "Gender classes" in facts
    assert "Race classes" not in facts


def test_a_mixture_is_described_by_its_first_network(
    estimator: AgeEstimator, estimator_of: NewEstimator
) -> None:
    networks = {"a": estimator.model, "b": estimator_of().model}
    mixture = AgeEstimator(Ensemble(networks), device="cpu")
    facts = describe(mixture)
    assert facts["Networks"].startswith("2, used as one mixture")
    assert facts["Trained on"] == "44,106 faces of morph"
    assert facts["Calibration"] == "1 of 2 networks calibrated by themselves, not the mixture"
    assert NO_ATTENTION not in html_of(mixture)


def test_limits_and_facts_are_escaped(estimator: AgeEstimator) -> None:
    html = html_of(estimator)
    assert "as &lt;released&gt;" in html
    assert html.count("<li>") == len(LIMITS)
    assert "No decision about a person may rest on this" in html


@pytest.mark.parametrize(("msa", "boxes"), [({"rates": (1,), "stages": (1,)}, 2), (None, 0)])
def test_switches_are_there_where_there_is_attention_and_else_the_reason(
    estimator_of: NewEstimator, msa: dict | None, boxes: int
) -> None:
    html = html_of(estimator_of(msa=msa))
    assert html.count('type="checkbox"') == boxes
    assert (NO_ATTENTION in html) == (boxes == 0)


def test_every_class_of_the_style_is_used_by_a_template() -> None:
    sources = [file.read_text() for file in (*TEMPLATES.glob("*.html"), *TEMPLATES.parent.glob("*.py"))]
    style = re.sub(r"/\*.*?\*/", "", STYLE.read_text())
    for name in set(re.findall(r"\.([a-z][\w-]*)", style)) - {"dark"}:
        assert any(re.search(rf"\b{name}\b", source) for source in sources), name


def test_the_page_tells_nobody_and_loads_nothing_from_elsewhere(estimator: AgeEstimator) -> None:
    page = built(estimator)
    assert page.analytics_enabled is False
    assert NOT_STORED in str(page.get_config_file())
    assert "http" not in STYLE.read_text()
