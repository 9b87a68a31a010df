import pytest
import torch
from attention_variants import VARIANTS, Additive, GateAndAdd, NormalisedGate, main, use

from mtmsa_lightning.models.backbones import resnet
from mtmsa_lightning.models.backbones.msa import MSAConfig

MSA = MSAConfig(rates=(1, 2), stages=(2,))


@pytest.fixture(autouse=True)
def package_as_it_is(monkeypatch):
    monkeypatch.setattr(resnet, "MultiScaleAttention", resnet.MultiScaleAttention)
    monkeypatch.setattr(resnet.MSAResNet, "_add_attention", resnet.MSAResNet._add_attention)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "modules_and_blocks"])
def test_every_variant_starts_as_the_plain_network(name):
    use(name)
    trunk, plain = resnet.MSAResNet(MSA, "resnet18"), resnet.MSAResNet(None, "resnet18")
    plain.load_state_dict(trunk.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    assert type(trunk.msa["2"]) is VARIANTS[name]
    assert torch.equal(trunk(images), plain(images))


@pytest.mark.parametrize("variant", [Additive, GateAndAdd, NormalisedGate])
def test_attention_and_forward_agree_once_trained(variant):
    torch.manual_seed(0)
    module = variant(32, (1, 2))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    module.eval()
    x = torch.randn(2, 32, 8, 8)
    assert torch.allclose(module(x), module.attend(x)[0], atol=1e-6)
    assert not torch.allclose(module(x), x, atol=1e-2)


def test_addition_and_gate_are_their_formulas():
    torch.manual_seed(0)
    module = GateAndAdd(32, (1, 2)).eval()
    torch.nn.init.normal_(module.add.weight)
    torch.nn.init.normal_(module.expand.weight)
    x = torch.randn(1, 32, 6, 6)
    u = module._fuse(x)[0]
    expected = x * (1 + torch.tanh(module.expand(u))) + module.add(u)
    assert torch.allclose(module(x), expected, atol=1e-6)


def test_modules_and_dilated_blocks_together():
    use("modules_and_blocks")
    trunk = resnet.MSAResNet(MSAConfig(rates=(2,), stages=(2,), allow_gridding=True), "resnet18")
    assert list(trunk.msa) == ["2"]
    assert {block.conv2.dilation for block in trunk.layer2} == {(2, 2)}
    assert trunk.layer3[0].conv2.dilation == (1, 1)


def test_unknown_variants_are_named(capsys):
    assert main(["none"]) == 2
    assert "normalised_selection" in capsys.readouterr().err
