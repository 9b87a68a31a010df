import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from mtmsa_lightning import AgeEstimator
from mtmsa_lightning._utils.images import UnreadableImageError
from mtmsa_lightning.align.detected_face import DetectedFace
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.evaluation.prediction_columns import prediction_columns, to_arrays
from mtmsa_lightning.labels import AGE_GROUPS

PREPARED = {"detector": {"name": "RetinaFace"}, "margin": 0.25, "size": 256}


@pytest.fixture(scope="module")
def photos(draw) -> list[np.ndarray]:
    """Eleven pictures of different sizes."""
    return [draw(seed, 60 + 7 * seed) for seed in range(11)]


@pytest.fixture(scope="module")
def plain(new_network) -> AgeEstimator:
    """Of a network that was trained on raw photos."""
    return AgeEstimator(new_network(), device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def finding(new_network, record, detector) -> AgeEstimator:
    """Of a network whose faces were found by `mtmsa prepare`."""
    model = new_network()
    model.provenance = record(PREPARED)
    return AgeEstimator(model, device="cpu", batch_size=4, detector=detector)


def said(faces) -> list[tuple[float, ...]]:
    return [
        (face.age.mean, face.age.std, *face.gender.probabilities.values(), *face.race.probabilities.values())
        for face in faces
    ]


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("head", "calibrated", "groups"),
    [("GaussianAgeHead", False, ()), ("CoralAgeHead", True, AGE_GROUPS), ("L1AgeHead", True, ())],
)
def test_faces_say_what_the_prediction_table_says(head, calibrated, groups, new_network, calibration, photos):
    """The table of ``mtmsa test`` is the reference: same network, same preprocessing, same calibration."""
    model = new_network(
        age={"class_path": f"mtmsa_lightning.{head}"}, age_groups=groups, crop=0.9, image_size=72
    )
    model.calibration = calibration if calibrated else None
    images = np.stack([FaceTransform(72, 0.9)(photo) for photo in photos])
    with torch.inference_mode():
        output = model.calibrated(model(torch.from_numpy(images).permute(0, 3, 1, 2)))
    table = to_arrays([prediction_columns(model, output)])

    faces = [face for (face,) in AgeEstimator(model, device="cpu", batch_size=4)(photos)]
    for row, face in enumerate(faces):
        expected = {name: values[row] for name, values in table.items()}
        assert face.age.mean == pytest.approx(expected["age_mean"], abs=1e-3)
        assert face.age.std == pytest.approx(expected["age_std"], abs=1e-3)
        assert face.age.interval(0.9) == pytest.approx(
            (expected["age_low90"], expected["age_high90"]), abs=1e-3
        )
        assert face.unsure == expected.get("unsure")
        over = {name: value for name, value in expected.items() if name.startswith("over_")}
        assert {f"over_{age}": decision for age, decision in face.over.items()} == over
        assert over.keys() == ({"over_18", "over_21"} if calibrated else set())
        assert over.items() <= face.to_dict().items()
        for task in ("gender", "race"):
            probabilities = {
                k.removeprefix(f"{task}_"): v for k, v in expected.items() if k.startswith(f"{task}_")
            }
            prediction = getattr(face, task)
            assert dict(prediction.probabilities) == pytest.approx(probabilities, abs=1e-3)
            assert list(prediction.probabilities) == list(probabilities)
            assert prediction.name == max(probabilities, key=probabilities.get)
            assert prediction.probability == max(prediction.probabilities.values())
        of_groups = {f"group_{low}_{high}": value for (low, high), value in face.age.groups.items()}
        assert of_groups == pytest.approx(
            {k: v for k, v in expected.items() if k.startswith("group_")}, abs=1e-3
        )


def test_intervals_of_a_calibrated_checkpoint_are_the_conformal_ones(new_network, calibration, photos):
    """At the levels that were fitted, from the bare network's sigma; infinite where subjects were too few."""
    model = new_network()
    bare = AgeEstimator(model, device="cpu")(photos[0])[0].age
    model.calibration = calibration
    age = AgeEstimator(model, device="cpu")(photos[0])[0].age
    assert age.std == pytest.approx(1.25 * bare.std)
    for level, width in ((0.5, 0.6), (0.9, 1.9)):
        low, high = bare.mean - width * bare.std, bare.mean + width * bare.std
        assert age.interval(level) == pytest.approx((max(low, 0), high))
    assert age.interval(0.95) == (0, np.inf)
    low, high = age.interval(0.6827)  # not fitted: one calibrated sigma about the mean
    assert (high - low) / 2 == pytest.approx(age.std, rel=1e-3)


def test_probabilities_of_ages_and_groups_on_request(plain, photos):
    age = plain(photos[0])[0].age
    assert age.groups == {}, "the checkpoint learnt none"
    assert sum(age.cells()) == pytest.approx(1)
    assert len(age.cells((20, 40))) == 3
    assert age.cells((29.5, 39.5))[1] == pytest.approx(age.probability(30, 39))
    assert age.probability(30, 30) + age.probability(31, 31) == pytest.approx(age.probability(30, 31))


def test_heads_that_know_nothing_say_nothing(new_network, record, photos):
    ageless = AgeEstimator(new_network(age=None), device="cpu")(photos[0])[0]
    assert ageless.gender is not None
    assert ageless.unsure is None
    with pytest.raises(CheckpointError, match="without an age head"):
        _ = ageless.age
    model = new_network()
    model.provenance = record(labels=["age", "exact", "gender"])  # Adience, say: a race head without labels
    face = AgeEstimator(model, device="cpu")(photos[0])[0]
    assert face.race is None
    assert face.gender is not None
    assert "male" in repr(face)
    assert repr(face).startswith("Face(")


# ---------------------------------------------------------------- photos in, faces out


def test_one_photo_gives_faces_and_a_list_gives_lists(plain, photos):
    (face,) = plain(photos[0])
    assert [len(faces) for faces in plain(photos[:3])] == [1, 1, 1]
    assert said(plain([photos[0]])[0]) == said([face])
    assert plain([]) == []


def test_every_form_of_one_photo_gives_the_same_faces(finding, portrait, tmp_path):
    cv2.imwrite(str(tmp_path / "portrait.png"), portrait[..., ::-1])
    tensor = torch.from_numpy(portrait).permute(2, 0, 1)
    forms = [
        portrait,
        tmp_path / "portrait.png",
        str(tmp_path / "portrait.png"),
        PIL.Image.fromarray(portrait),
    ]
    answers = [said(finding(form)) for form in [*forms, tensor, tensor / 255]]
    assert answers == [answers[0]] * len(answers)
    assert len(answers[0]) == 1


def test_the_checkpoint_decides_whether_faces_are_looked_for_and_the_caller_may(plain, finding, portrait):
    (taken,) = plain(portrait)
    assert taken.score is None
    assert taken.box == (-0.5, -0.5, 511.5, 511.5)
    (found,) = finding(portrait)
    assert found.score > 0.9
    assert np.allclose(found.box, (177, 56, 273, 177), atol=2)
    assert found.landmarks.shape == (5, 2)
    assert plain(portrait, detect=True)[0].score == found.score
    assert finding(portrait, detect=False)[0].box == taken.box
    assert "used as one cropped face" in plain.describe()
    assert "aligned with a margin of 0.25" in finding.describe()


def test_a_photo_may_show_no_face_or_twenty(finding, portrait):
    """They stand in order of size, and each is where it was put."""
    assert finding(np.full((300, 400, 3), 90, np.uint8)) == []
    assert finding(np.zeros((1, 1, 3), np.uint8)) == []
    photo = np.tile(portrait, (4, 5, 1))
    faces = finding(photo)
    assert len(faces) == 20
    centres = {
        (round((face.box[0] + face.box[2]) / 2) // 512, round((face.box[1] + face.box[3]) / 2) // 512)
        for face in faces
    }
    assert centres == {(column, row) for column in range(5) for row in range(4)}
    first = faces[0].crop.image.astype(int)
    assert max(np.abs(face.crop.image - first).mean() for face in faces) < 12, "of 255"


def test_a_fault_is_raised_by_a_call_and_yielded_by_a_stream(plain, photos, tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    several = [
        photos[0],
        tmp_path / "text.jpg",
        photos[1],
        np.zeros((3, 5)),
        tmp_path / "gone.png",
        photos[2],
    ]
    with pytest.raises(UnreadableImageError, match=r"photo 2 of 6: .*text\.jpg"):
        plain(several)
    with pytest.raises(UnreadableImageError, match=r"^\S*gone\.png: cannot be read"):
        plain(tmp_path / "gone.png")
    answers = list(plain.stream(several))
    assert [len(answer.faces) for answer in answers] == [1, 0, 1, 1, 0, 1]
    assert [bool(answer.error) for answer in answers] == [False, True, False, False, True, False]
    paths = [None, tmp_path / "text.jpg", None, None, tmp_path / "gone.png", None]
    assert [answer.path for answer in answers] == paths
    np.testing.assert_allclose(said(answers[5].faces), said(plain(photos[2])), atol=1e-3)
    with pytest.raises(TypeError, match="not NoneType"):
        list(plain.stream([photos[0], None]))


def test_every_photo_of_a_stream_carries_its_path(plain, photos, tmp_path):
    for number, photo in enumerate(photos):
        cv2.imwrite(str(tmp_path / f"{number}.png"), photo)
    paths = [tmp_path / f"{number}.png" for number in range(len(photos))]
    assert [answer.path for answer in plain.stream(map(str, paths))] == paths


def test_an_estimator_says_in_one_line_what_it_is(new_network, calibration):
    model = new_network()
    said = "AgeEstimator(trained on morph; 64 px; age; gender male, female; race white, black, asian; "
    assert repr(AgeEstimator(model, device="cpu")) == f"{said}not calibrated; cpu)"
    model.calibration = calibration
    assert repr(AgeEstimator(model, device="cpu")) == f"{said}calibrated; cpu)"


# ---------------------------------------------------------------- batches and threads


def face_at(shift: int) -> DetectedFace:
    landmarks = np.array([[20.0, 20], [40, 20], [30, 30], [22, 40], [38, 40]])
    return DetectedFace(np.array([0.0, 0, 50, 50]), landmarks + shift, 0.99)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_batch_size_changes_nothing_but_the_last_digits(batch_size, plain, photos):
    faces = [face for (face,) in AgeEstimator(plain.model, device="cpu", batch_size=batch_size)(photos)]
    np.testing.assert_allclose(said(faces), said([plain(photo)[0] for photo in photos]), atol=1e-3)


def test_the_network_gets_full_batches_of_faces_of_several_photos(new_network, photos):
    """Three faces of each photo, batches of four: twelve photos make nine full batches."""
    three = [face_at(shift) for shift in range(3)]
    model = new_network()
    sizes = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    estimator = AgeEstimator(model, device="cpu", batch_size=4, detector=lambda _: three)
    assert [len(faces) for faces in estimator([photos[0]] * 12, detect=True)] == [3] * 12
    assert sum(sizes) == 36
    assert max(sizes) == 4
    assert len(sizes) == 9


def test_a_stream_takes_photos_as_it_goes(plain, photos):
    """However many there are, it is only a few photos and a batch ahead: memory does not grow."""
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield photos[taken % len(photos)]

    stream = plain.stream(endless())
    ahead = []
    for done in range(1, 41):
        assert next(stream).faces
        ahead.append(taken - done)
    stream.close()
    assert max(ahead) <= 4 + 2 * 8, "batch size, and two photos for each of at most eight threads"


@pytest.mark.parametrize("first", [0, 1])
def test_photos_without_faces_do_not_pile_up(first, plain, photos):
    """Nor does the one before them wait for a full batch."""
    found = iter([[face_at(0)]] * first)
    estimator = AgeEstimator(plain.model, device="cpu", batch_size=4, detector=lambda _: next(found, []))
    taken = iter(range(10**9))
    stream = estimator.stream((photos[0] for _ in taken), detect=True)
    assert sum(len(next(stream).faces) for _ in range(2)) == first
    stream.close()
    assert next(taken) < 30


def test_threads_get_the_answers_of_one_thread(finding, plain, photos, portrait):
    photos = photos[:3]
    alone = [said(plain(photo)) for photo in photos], said(finding(portrait))
    barrier = threading.Barrier(4)

    def all_at_once(number: int) -> tuple[list, list]:
        barrier.wait()
        return [said(plain(photo)) for photo in photos], said(finding(portrait))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(all_at_once, range(4))) == [alone] * 4


def test_the_detector_is_loaded_once_by_whichever_thread_needs_it_first(plain, photos, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "mtmsa_lightning.inference.estimator.load_detector", lambda *_: loaded.append(1) or (lambda _: [])
    )
    estimator = AgeEstimator(plain.model, device="cpu")
    estimator(photos[0])
    assert not loaded, "cropped faces need none"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda photo: estimator(photo, detect=True), photos[:4]))
    assert len(loaded) == 1


def test_nothing_is_learnt_and_no_gradient_is_kept(plain, photos):
    before = {key: value.clone() for key, value in plain.model.state_dict().items()}
    face = plain(photos[0])[0]
    assert not face.age.distribution.mean.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in plain.model.state_dict().items())


# ---------------------------------------------------------------- attention


def test_attention_of_a_face_is_that_of_its_network(plain, photos):
    faces = [face for (face,) in plain(photos[:3])]
    attentions = plain.attention(faces)
    images = torch.from_numpy(np.stack([face.crop.image for face in faces])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = plain.model.trunk.attention(plain.model.normalise(images))[1]
    for row, attention in enumerate(attentions):
        assert list(attention.maps) == list(attention.rates) == [1]
        np.testing.assert_allclose(attention.maps[1], expected.spatial_map[row], atol=1e-6)
        assert [rate for rate, _ in attention.rates[1]] == [1, 2]
        shares = [share for _, share in attention.rates[1]]
        assert shares == pytest.approx(expected.scale_weights[row].mean(1).tolist(), abs=1e-3)
        assert sum(shares) == pytest.approx(1)


def test_a_network_without_attention_has_none_to_show(new_network, photos):
    estimator = AgeEstimator(new_network(msa=None), device="cpu")
    assert estimator.attention(estimator(photos[0])) == [({}, {})]
    assert estimator.attention([]) == []


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_answers_that_overflow_are_an_error_that_names_checkpoint_and_precision(
    precision, new_network, save, draw, tmp_path
):
    """All weights are finite; the activations are not."""
    model = new_network()
    with torch.no_grad():
        for parameter in model.age.parameters():
            parameter.fill_(3e38)
    file = save(model, tmp_path / "large.ckpt")
    estimator = AgeEstimator.from_pretrained(file, device="cpu", precision=precision)
    with pytest.raises(
        CheckpointError, match=rf"large.ckpt: its outputs \(age\) .* precision {precision}"
    ) as told:
        estimator(draw(0))
    assert ("use the precision 32-true" in str(told.value)) == (precision != "32-true")
