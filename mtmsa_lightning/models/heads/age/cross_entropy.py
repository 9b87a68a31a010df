"""Classification of years, with the expectation as the predicted age: DEX.

Rothe, Timofte & Van Gool, "DEX: Deep EXpectation of apparent age from a single image", ICCV Workshops 2015;
"Deep expectation of real and apparent age from a single image without facial landmarks", IJCV 126, 2018.
"""

from torch import Tensor

from mtmsa_lightning.models.heads.age.categorical import SoftmaxAgeHead, negative_log_mass


class CrossEntropyAgeHead(SoftmaxAgeHead):
    """Predict age by cross-entropy over years: ``-log p_y``; the predicted age is ``sum p_y y``.

    For an age group the loss is the likelihood of the group, ``-log sum p_y`` over its years.

    Args:
        in_features: Length of the feature vector.
        min_age: First year.
        max_age: Last year; labels outside the years are learned as the nearest one.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, K)``, logits.
    """

    def year_loss(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the negative log-probability of each label."""
        return negative_log_mass(self.log_pmf(raw), self.members(low, high))
