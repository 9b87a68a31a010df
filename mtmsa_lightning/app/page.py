"""The texts of the page and its layout in Gradio."""

from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.align.crop import ALIGNED
from mtmsa_lightning.app.drawing import part
from mtmsa_lightning.app.result import interval_is_calibrated, predict_photo, refusal, unsure_rule
from mtmsa_lightning.app.uploads import Uploads
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.runs.ensemble import members_of
from mtmsa_lightning.runs.pretrained import licence_note

if TYPE_CHECKING:
    import gradio

TITLE = "Apparent age, with its uncertainty"

NOT_STORED = (
    "Photos are not stored. A photo goes to the computer that runs this page and to no other; it is held "
    "there in memory until the result is ready, and nothing of it is kept."
)

LIMITS = (
    "The network guesses what a dataset's label would be for a picture. It does not know how old anybody is: "
    "errors of several years are common, and larger ones for ages and people that were rare in training.",
    "Gender and race are the classes that a dataset recorded, by other people or by papers. They do not say "
    "who a person is, and a face that fits none of them gets probabilities all the same.",
    "No decision about a person may rest on this: no access, employment, credit, insurance, policing or "
    "proof of age.",
    "Faces are personal data, and laws limit sorting people by them. Show the page only photos that the "
    "people on them, or the law, let you use.",
)

NO_ATTENTION = (
    "This checkpoint was trained without attention modules (model.msa is null): there is no attention and no "
    "dilation rate to show."
)

OTHERWISE_CROPPED = (
    "This checkpoint was not trained on faces that `mtmsa prepare` had found and aligned, as the page does: "
    "its answers here can be worse than on faces cropped as in training."
)

AS_RELEASED = (
    "faces are found and brought to where the pictures of the release, which the network was trained on, "
    "have them"
)

GONE = "The photo is not there any more. Please choose it again."

LONGEST_QUEUE = 100  # maximum of waiting requests; Gradio refuses more with status 503


def build(estimator: AgeEstimator, uploads: Uploads) -> "gradio.Blocks":
    """Lay out the page."""
    import gradio

    def look(upload: dict[str, Any] | None) -> tuple[None, Any]:
        """Clear the input and the result; there is no upload when the camera is switched on."""
        if upload is None:
            return None, gradio.skip()
        photo = uploads.take(upload["path"])
        return None, framed(
            refusal(GONE) if photo is None else predict_photo(estimator, photo, upload["orig_name"])
        )

    page = gradio.Blocks(title=TITLE, analytics_enabled=False)
    with page:
        gradio.HTML(framed(part("intro", TITLE, NOT_STORED)))
        photo = gradio.Image(
            label="Photo: drop it, choose it, paste it or take it",
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            image_mode=None,  # the original file, which is checked before it is decoded
            height=230,
            buttons=[],
            webcam_options=gradio.WebcamOptions(mirror=False),
            elem_id="photo",
        )
        gradio.HTML(framed(part("switches", "" if estimator.has_attention else NO_ATTENTION)))
        shown = gradio.HTML(framed("<p>No photo yet.</p>"), elem_id="answer", min_height=60)
        gradio.HTML(framed(part("about", LIMITS, describe(estimator))))
        photo.input(
            look,
            photo,
            [photo, shown],
            preprocess=False,
            show_progress_on=shown,
            api_visibility="undocumented",
        )
    page.queue(max_size=LONGEST_QUEUE)
    return page


def framed(html: str) -> str:
    """Return a part of the page inside the element that its style applies to."""
    return f'<div class="mtmsa">{html}</div>'


def describe(estimator: AgeEstimator) -> dict[str, str]:
    """Return facts about the model, by title."""
    model, how = estimator.model, estimator.preprocessing
    known = model.provenance or {}
    classes = {
        f"{task.capitalize()} classes": ", ".join(names) for task, names in model.trained_classes.items()
    }
    rule = unsure_rule(estimator)
    faces = f"{pluralize(known['faces']['train'], 'face')} of " if "faces" in known else ""
    if how.margin is not None:
        crops = how.describe()
    else:
        crops = AS_RELEASED if how.dataset in ALIGNED else OTHERWISE_CROPPED
    networks = len(members_of(model))
    several = f"{networks}, used as one mixture; what follows, and the attention, is of the first of them"
    return {
        **({"Networks": several} if networks > 1 else {}),
        "Trained on": f"{faces}{known.get('dataset', 'unknown data')}",
        "Protocol": f"{known.get('protocol', 'unknown')}, fold {known.get('fold', '?')}",
        "Labels": str(known.get("label_rule", "unknown")),
        "Faces": crops,
        "Input": f"{how.image_size} x {how.image_size} pixels",
        **classes,
        "Calibration": _calibration(estimator),
        "Terms of use": licence_note(known),
        "Unsure faces": (
            f"a face is unsure if {rule}" if rule else "no threshold was set, so no face is called unsure"
        ),
        **{
            f"Decision at {policy.legal_age}": f"{policy.describe()}; {policy.promise()}"
            for policy in (model.calibration.policies if model.calibration is not None else ())
        },
    }


def _calibration(estimator: AgeEstimator) -> str:
    text: str = estimator.model.describe_calibration()
    if not text:
        return "none: intervals and probabilities are the network's own, and can be far too sure"
    own = estimator.model.calibration is not None and not interval_is_calibrated(estimator)
    return f"{text}; intervals of age are the network's own" if own else text
