import numpy as np
import pytest
import torch
from receptive_field import diameter_above, new_backbone, receptive_field, side_of_mass
from torch import nn

from mtmsa_lightning import MSAConfig


class TwoConvolutions(nn.Module):
    """Two 3x3 convolutions of ones, the second dilated by 3: the field of the middle cell is known."""

    def stage_maps(self, images):
        once = nn.functional.conv2d(images, torch.ones(1, 3, 3, 3), padding=1)
        return [nn.functional.conv2d(once, torch.ones(1, 1, 3, 3), padding=3, dilation=3)]


def test_the_field_is_the_one_counted_by_hand():
    field = receptive_field(TwoConvolutions(), stage=1, size=15, draws=3, seed=0)
    expected = np.zeros((15, 15))
    for row in (-3, 0, 3):
        for column in (-3, 0, 3):
            expected[7 + row - 1 : 7 + row + 2, 7 + column - 1 : 7 + column + 2] += 1
    np.testing.assert_allclose(field / field.max(), expected / expected.max(), rtol=1e-6)
    assert side_of_mass(field, share=1.0) == 9


@pytest.mark.parametrize(("share", "side"), [(1 / 25, 1), (9 / 25, 3), (0.5, 5), (1.0, 5)])
def test_the_side_of_a_flat_square(share, side):
    field = np.zeros((11, 11))
    field[3:8, 3:8] = 1
    assert side_of_mass(field, share - 1e-9) == side


def test_the_diameter_is_that_of_the_pixels_above_the_level():
    rows, columns = np.indices((101, 101)) - 50
    gaussian = np.exp(-(rows**2 + columns**2) / (2 * 10**2))
    reached = 10 * np.sqrt(2 * np.log(1 / 0.0455))  # where a Gaussian falls to the level
    assert diameter_above(gaussian) == pytest.approx(2 * reached, rel=0.01)


def test_trunks_with_and_without_attention_share_their_resnet():
    plain, attended = new_backbone(None, 0.1, 0), new_backbone(MSAConfig(rates=(1, 2, 3)), 0.1, 0)
    weights = attended.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())
    assert all(module.expand.weight.std() > 0.05 for module in attended.msa.values())
