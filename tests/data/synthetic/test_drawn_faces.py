import cv2
import numpy as np
import pytest

from mtmsa_lightning.data.synthetic import draw_face, draw_subject
from mtmsa_lightning.data.synthetic.subjects import age_cues
from mtmsa_lightning.labels import GENDERS, RACES

N_TRAIN, N_TEST = 400, 150


def person(seed=0, gender="female", race="white"):
    return draw_subject(np.random.default_rng(seed), gender, race)


def thumbnails_of_people():
    """Return ages and thumbnails of 950 people, one picture each."""
    rng = np.random.default_rng(0)
    ages = 16 + 58 * rng.beta(1.2, 1.9, N_TRAIN + N_TEST)
    thumbnails = []
    for index, age in enumerate(ages):
        subject = draw_subject(rng, str(rng.choice(GENDERS)), str(rng.choice(RACES)))
        face = draw_face(subject, float(age), index, size=64)
        thumbnails.append(cv2.resize(face, (8, 8), interpolation=cv2.INTER_AREA).reshape(-1))
    return ages, np.asarray(thumbnails, np.float64)


def ridge_error(features, ages):
    """Return the best test error of ridge regression over penalties, as a share of the constant guess's."""
    train, test = slice(N_TRAIN), slice(N_TRAIN, None)
    scaled = (features - features[train].mean(0)) / features[train].std(0)
    mean = ages[train].mean()
    gram, moment = scaled[train].T @ scaled[train], scaled[train].T @ (ages[train] - mean)
    errors = []
    for penalty in (1, 10, 100, 1_000, 10_000):
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), moment)
        errors.append(np.abs(mean + scaled[test] @ weights - ages[test]).mean())
    return min(errors) / np.abs(mean - ages[test]).mean()


@pytest.mark.slow
def test_a_thumbnail_does_not_settle_the_age_and_mean_colour_says_next_to_nothing_about_it():
    ages, thumbnails = thumbnails_of_people()
    assert ridge_error(thumbnails, ages) > 0.5
    colours = thumbnails.reshape(len(ages), 64, 3).mean(1)
    assert ridge_error(colours, ages) > 0.93
    correlations = [np.corrcoef(colours[:, channel], ages)[0, 1] for channel in range(3)]
    assert np.abs(correlations).max() < 0.15


@pytest.mark.parametrize("size", [64, 80, 200, 816])
def test_a_face_is_an_rgb_picture_of_the_asked_size(size):
    face = draw_face(person(), 30, 1, size)
    assert face.shape == (size, size, 3)
    assert face.dtype == np.uint8
    assert face.std() > 20


@pytest.mark.parametrize("gender", GENDERS)
@pytest.mark.parametrize(("place", "race"), list(enumerate(RACES)))
def test_everyone_can_be_drawn_at_any_age(gender, place, race):
    """Every gender of every race at two of the ages, and every gender at each."""
    ages = (0, 7.5, 16, 45, 90, 116)
    for age in (ages[place % 6], ages[(place + 3) % 6]):
        assert draw_face(person(3, gender, race), age, 5).std() > 20


def test_the_same_arguments_draw_the_same_pixels_whatever_was_drawn_before():
    first = draw_face(person(), 40, 7)
    draw_face(person(9), 20, 8)
    np.random.default_rng().normal()
    assert np.array_equal(draw_face(person(), 40, 7), first)


def test_pictures_of_one_person_differ():
    first, second = (draw_face(person(), 40, seed).astype(float) for seed in (1, 2))
    assert np.abs(first - second).mean() > 5


def test_every_cue_grows_with_age_on_average():
    def mean_cues(age):
        rng = np.random.default_rng(1)
        drawn = [age_cues(person(seed, "male"), age, rng) for seed in range(60)]
        names = ("wrinkles", "grey", "hairline", "sag", "texture", "growth")
        return np.array([np.mean([getattr(cues, name) for cues in drawn]) for name in names])

    child, young, middle, old = (mean_cues(age) for age in (6, 22, 42, 65))
    assert (young[:-1] < middle[:-1]).all()
    assert (middle[:-1] < old[:-1]).all()
    assert child[-1] < young[-1]


def test_no_cue_settles_the_age_alone():
    rng = np.random.default_rng(1)
    younger, older = (
        [age_cues(person(seed, "male"), age, rng).wrinkles for seed in range(200)] for age in (36, 44)
    )
    assert np.mean(younger) < np.mean(older)
    assert np.percentile(younger, 90) > np.percentile(older, 25)


def test_skin_tones_of_races_overlap():
    tones = {race: [person(seed, race=race).skin.mean() for seed in range(80)] for race in RACES}
    assert np.mean(tones["white"]) > np.mean(tones["indian"]) > np.mean(tones["black"])
    assert min(tones["hispanic"]) < max(tones["indian"])
