import pytest
import timm
import torch
from torch import nn

from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.models.backbones.build import build_trunk
from mtmsa_lightning.models.backbones.msa import MSAConfig
from mtmsa_lightning.models.backbones.timm_trunk import AttendedStage, TimmTrunk
from mtmsa_lightning.models.weights import load_trunk_weights

NAMES = ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto", "regnety_002"]


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    """The whole network of timm with random weights and statistics."""
    torch.manual_seed(1)
    whole = timm.create_model(request.param).eval()
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    return request.param, whole


def test_weights_of_the_whole_network_give_its_maps_with_new_attention(network, tmp_path):
    name, whole = network
    torch.save(whole.state_dict(), tmp_path / "x.pth")
    trunk = build_trunk(f"timm/{name}", MSAConfig(), image_size=64).eval()
    load_trunk_weights(trunk, tmp_path / "x.pth")
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        maps = trunk.stage_maps(x)
        expected = whole.forward_intermediates(x, intermediates_only=True)[-4:]
        for one, other in zip(maps, expected, strict=True):
            torch.testing.assert_close(one, other)
        features, aux = trunk(x, 2)
    assert features.shape == (2, trunk.stage_channels[3])
    assert aux.shape == (2, trunk.stage_channels[1])
    assert [64 // each.shape[-1] for each in maps] == list(trunk.stage_strides)


def test_attention_gates_the_map_that_the_next_stage_reads(network):
    name, _ = network
    torch.manual_seed(0)
    trunk = TimmTrunk(name, MSAConfig(rates=(1,), stages=(2,)), 64).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = trunk.stage_maps(x)
        ((stage, module),) = trunk.attention_modules().items()
        nn.init.constant_(module.expand.bias, 0.5)
        after = trunk.stage_maps(x)
        gate = trunk.attention(x)[2].spatial_map
    assert stage == 2
    assert torch.equal(before[0], after[0])
    torch.testing.assert_close(after[1], before[1] * (1 + torch.tensor(0.5).tanh()))
    assert not torch.allclose(before[2], after[2])
    torch.testing.assert_close(gate, torch.full_like(gate, torch.tensor(0.5).tanh().item()))


def test_parameters_belong_to_stages_in_the_order_of_the_network(network):
    trunk = TimmTrunk(network[0], MSAConfig(), 64)
    found = list(trunk.pretrained_parameters())
    stages = [stage for _, _, stage in found]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2, 3, 4}
    assert not any("attention" in name.split(".") for name, _, _ in found)
    attention = sum(p.numel() for each in trunk.attention_modules().values() for p in each.parameters())
    assert sum(p.numel() for _, p, _ in found) + attention == sum(p.numel() for p in trunk.parameters())


def test_frozen_layers_keep_their_statistics_while_attention_learns():
    trunk = TimmTrunk("mobilenetv3_small_050", MSAConfig(), 64)
    trunk.train_pretrained(False)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk(torch.randn(4, 3, 64, 64))
    changed = {key for key, value in trunk.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(".attention." in key for key in changed)
    assert trunk.training


def test_checkpointed_activations_give_the_same_gradients():
    torch.manual_seed(0)
    plain = TimmTrunk("tf_efficientnet_lite0", MSAConfig(), 64)
    saving = TimmTrunk("tf_efficientnet_lite0", MSAConfig(), 64, checkpoint_activations=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for trunk in (plain, saving):
        trunk(x).square().sum().backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_own_weights_are_loaded_whole(tmp_path):
    torch.manual_seed(0)
    saved, loaded = (TimmTrunk("regnety_002", MSAConfig(), 64) for _ in range(2))
    torch.save(saved.state_dict(), tmp_path / "x.pth")
    load_trunk_weights(loaded, tmp_path / "x.pth")
    for key, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]), key


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("resnet101", {}, "is not one of resnet18, resnet34, resnet50, nor a network of timm, timm/NAME"),
        ("timm/resnet999", {}, "timm has no such network"),
        ("timm/vit_tiny_patch16_224", {}, "is not a convolutional network of four stages"),
        ("timm/swin_tiny_patch4_window7_224", {}, "is not a convolutional network of four stages"),
        ("timm/resnet18", {"last_stride": 1}, "model.last_stride and model.stem_pool belong to ResNets"),
        ("timm/resnet18", {"stem_pool": False}, "model.last_stride and model.stem_pool belong to ResNets"),
        ("timm/resnet18", {"msa": MSAConfig(placement="in_blocks")}, "use after_stage"),
    ],
)
def test_what_cannot_be_built_is_refused(backbone, options, message):
    with pytest.raises(ConfigError, match=message):
        build_trunk(backbone, **options)


def test_weights_of_another_network_are_refused_and_nothing_is_loaded(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "x.pth")
    trunk = TimmTrunk("mobilenetv3_small_050")
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"no weights of timm/mobilenetv3_small_050: \d+ keys"):
        load_trunk_weights(trunk, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="chosen by the name of the network"):
        load_trunk_weights(trunk, "IMAGENET1K_V1")
    for key, value in trunk.state_dict().items():
        assert torch.equal(value, before[key])


def test_stages_keep_their_names_beside_attention():
    trunk = TimmTrunk("resnet18", MSAConfig(rates=(1,), stages=(3,)), 64)
    assert isinstance(trunk.get_submodule("body.layer3"), AttendedStage)
    assert trunk.stage_modules == ("body.layer1", "body.layer2", "body.layer3", "body.layer4")
