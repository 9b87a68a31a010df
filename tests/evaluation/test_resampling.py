import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtmsa_lightning.evaluation.resampling import (
    bootstrap_means,
    cluster_numbers,
    interval,
    paired_permutation,
)

VALUES = np.array([1.0, 4.0, 2.5, 8.0, 0.5, 3.0, 7.0])
CLUSTERS = np.array(["a", "a", "b", "c", "b", "b", ""])


def members(clusters):
    """Positions of each cluster's faces, an empty label being a cluster of its own."""
    groups = {}
    for position, label in enumerate(clusters):
        groups.setdefault(label or position, []).append(position)
    return list(groups.values())


def all_bootstrap_means(values, clusters):
    groups = members(clusters)
    samples = itertools.product(groups, repeat=len(groups))
    return np.array([values[np.concatenate(sample)].mean() for sample in samples])


def exact_p(differences, clusters):
    groups = members(clusters)
    far = 0
    for signs in itertools.product([-1, 1], repeat=len(groups)):
        flipped = sum(sign * differences[group].sum() for sign, group in zip(signs, groups, strict=True))
        far += abs(flipped) >= abs(differences.sum()) - 1e-12
    return far / 2 ** len(groups)


# ------------------------------------------------------------------------ bootstrap


def test_the_draws_have_the_distribution_of_all_bootstrap_samples():
    exact = all_bootstrap_means(VALUES, CLUSTERS)
    assert len(exact) == 4**4
    drawn = bootstrap_means(VALUES, CLUSTERS, draws=40_000)
    assert drawn.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / 200)
    assert drawn.std() == pytest.approx(exact.std(), rel=0.02)
    support, times = np.unique(exact.round(9), return_counts=True)
    found, counted = np.unique(drawn.round(9), return_counts=True)
    assert set(found) == set(support)
    assert stats.chisquare(counted, times / len(exact) * len(drawn)).pvalue > 0.001
    for level in (0.5, 0.9):
        ends = (1 - level) / 2, (1 + level) / 2
        np.testing.assert_allclose(interval(drawn, level), np.quantile(exact, ends), atol=0.15)


def test_without_clusters_every_face_is_drawn_alone():
    drawn = bootstrap_means(VALUES, draws=20_000)
    assert drawn.std() == pytest.approx(VALUES.std() / np.sqrt(len(VALUES)), rel=0.03)


def test_columns_see_the_same_samples_and_missing_values_are_not_counted():
    columns = np.column_stack([VALUES, 2 * VALUES, np.where(VALUES > 3, VALUES, np.nan)])
    drawn = bootstrap_means(columns, CLUSTERS, draws=500)
    np.testing.assert_allclose(drawn[:, 1], 2 * drawn[:, 0])
    np.testing.assert_allclose(drawn[:, 0], bootstrap_means(VALUES, CLUSTERS, draws=500))
    nothing = np.isnan(drawn[:, 2])
    assert 0 < nothing.sum() < 50, "a sample of cluster b alone holds no value above 3"
    assert (drawn[~nothing, 2] >= 4).all()


def test_the_seed_decides_the_draws():
    first, again, other = (bootstrap_means(VALUES, CLUSTERS, draws=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_intervals_by_cluster_cover_the_truth_and_intervals_by_face_do_not():
    """Faces of a subject share an effect: 60 subjects of 5 faces, true mean 0, 300 simulated data sets."""
    random = np.random.default_rng(0)
    subjects = np.repeat(np.arange(60), 5)
    covered = np.zeros(2)
    for _ in range(300):
        values = random.normal(size=60)[subjects] + 0.5 * random.normal(size=300)
        for which, clusters in enumerate((subjects, None)):
            low, high = interval(bootstrap_means(values, clusters, draws=400))
            covered[which] += low <= 0 <= high
    by_subject, by_face = covered / 300
    assert 0.90 <= by_subject <= 0.98
    assert by_face < 0.75


def test_an_interval_leaves_out_samples_without_a_value():
    assert interval([1.0, np.nan, 3.0], 1.0) == (1.0, 3.0)
    assert np.isnan(interval([np.nan])).all()


# ------------------------------------------------------------------------ permutation


@pytest.mark.parametrize("clusters", [CLUSTERS, None])
def test_few_clusters_are_enumerated(clusters):
    differences = np.array([0.5, -1.0, 2.0, 1.5, 0.25, -0.5, 1.0])
    labels = [""] * 7 if clusters is None else clusters
    assert paired_permutation(differences, clusters) == pytest.approx(exact_p(differences, labels))


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.1, 0.3, 1.0, 2.0]), min_size=1, max_size=8),
    st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=8, max_size=8),
)
def test_enumeration_equals_brute_force(differences, labels):
    labels = np.array(labels[: len(differences)])
    differences = np.array(differences)
    assert paired_permutation(differences, labels) == pytest.approx(exact_p(differences, labels))


def test_drawn_flips_come_near_the_exact_p_and_are_never_zero():
    differences = np.random.default_rng(3).normal(0.5, 1, size=12)
    exact = paired_permutation(differences, draws=2**12)
    assert exact == pytest.approx(exact_p(differences, [""] * 12))
    drawn = paired_permutation(differences, draws=4_000, seed=1)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 4_000))
    assert paired_permutation(np.ones(200), draws=999) == 1 / 1000


def test_zero_or_one_outcomes_give_mcnemars_exact_test():
    differences = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 500)
    assert paired_permutation(differences) == pytest.approx(stats.binomtest(2, 11).pvalue)


def test_scipy_agrees_on_many_faces():
    first, second = np.random.default_rng(4).normal([[1.0], [1.2]], 1, size=(2, 60))

    def mean_difference(x, y, axis):
        return np.mean(x - y, axis=axis)

    reference = stats.permutation_test(
        (first, second), mean_difference, permutation_type="samples", n_resamples=20_000,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert paired_permutation(first - second) == pytest.approx(reference.pvalue, abs=0.02)


def test_no_difference_is_no_evidence():
    assert paired_permutation(np.zeros(5)) == 1.0
    assert np.isnan(paired_permutation(np.full(5, np.nan)))


def test_the_test_keeps_its_level_by_cluster():
    """20 subjects of 4 faces without a true difference, 400 simulated data sets: 5 % are called different."""
    random = np.random.default_rng(1)
    subjects = np.repeat(np.arange(20), 4)
    found = np.mean(
        [
            paired_permutation(random.normal(size=20)[subjects] + random.normal(size=80), subjects, draws=199)
            <= 0.05
            for _ in range(400)
        ]
    )
    assert found == pytest.approx(0.05, abs=0.035)


# ------------------------------------------------------------------------ clusters, size


def test_faces_without_a_subject_are_alone():
    assert len(set(cluster_numbers(CLUSTERS, 7))) == 4
    assert cluster_numbers(np.array(["", "", "x", "x"], object), 4).tolist()[2:] == [0, 0]
    assert cluster_numbers([5, 5, 9], 3).tolist() == [0, 0, 1]


@pytest.mark.parametrize("function", [bootstrap_means, paired_permutation])
def test_what_cannot_be_resampled_is_refused(function):
    with pytest.raises(ValueError, match="no face"):
        function([])
    with pytest.raises(ValueError, match="cluster labels for 2 faces"):
        function([1.0, 2.0], ["a"])


def test_eleven_thousand_faces_take_about_a_second():
    random = np.random.default_rng(0)
    values, subjects = random.normal(size=11_000), random.integers(3_000, size=11_000)
    start = time.perf_counter()
    bootstrap_means(values, draws=2_000)
    paired_permutation(values, subjects)
    assert time.perf_counter() - start < 10, "a machine shared with others; alone about half a second"


def test_a_mean_with_an_infinite_value_is_infinite_in_each_sample_that_draws_it():
    values = np.array([[1.0, 1.0], [np.inf, 2.0], [3.0, 3.0]])
    infinite, finite = bootstrap_means(values, draws=200).T
    assert set(infinite[~np.isnan(infinite)]) == {np.inf}
    assert np.isfinite(finite).all()
