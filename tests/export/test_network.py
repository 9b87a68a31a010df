import copy

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from mtmsa_lightning.export.network import fold_batch_norm
from mtmsa_lightning.models.backbones.msa import MSAConfig, MultiScaleAttention
from mtmsa_lightning.models.backbones.timm_trunk import TimmTrunk


def test_folding_batch_normalisation_changes_no_number_and_leaves_none():
    torch.manual_seed(0)
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    network = nn.Sequential(BasicBlock(8, 16, 2, shortcut), MultiScaleAttention(16, (1, 2)))
    nn.init.normal_(network[1].expand.weight)
    images = torch.randn(4, 8, 12, 12)
    network.train()(images)  # statistics that are not those of a new layer
    network.eval()
    folded = copy.deepcopy(network)
    fold_batch_norm(folded)
    assert not [part for part in folded.modules() if isinstance(part, nn.BatchNorm2d)]
    torch.testing.assert_close(folded(images), network(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "tf_efficientnet_lite0", "regnety_002", "resnet18"]
)
def test_folding_keeps_the_activations_inside_of_normalisation(name):
    torch.manual_seed(0)
    trunk = TimmTrunk(name, MSAConfig(rates=(1,), stages=(2,)), 64)
    images = torch.randn(4, 3, 64, 64)
    trunk(images)
    trunk.eval()
    folded = copy.deepcopy(trunk)
    fold_batch_norm(folded)
    assert not [part for part in folded.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.inference_mode():
        for one, other in zip(folded.stage_maps(images), trunk.stage_maps(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
