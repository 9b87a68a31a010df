import dataclasses
import pickle
import re
import urllib.error

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import ResNet34_Weights, resnet34

from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.models.backbones.msa import MSAConfig, MultiScaleAttention, padding_dominated_rates
from mtmsa_lightning.models.backbones.resnet import MSAResNet
from mtmsa_lightning.models.weights import load_trunk_weights

pytestmark = pytest.mark.usefixtures("full_width")


@pytest.fixture(scope="module")
def reference():
    """A torchvision ResNet-34 whose batch norms are not trivial."""
    torch.manual_seed(0)
    model = resnet34(weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def shared(full_width):
    """A trunk for tests that do not change it."""
    return MSAResNet().eval()


@pytest.fixture
def torchvision_file(reference, tmp_path):
    path = tmp_path / "resnet34.pth"
    torch.save(reference.state_dict(), path)
    return path


def reference_features(model, x):
    return nn.Sequential(*list(model.children())[:-1])(x).flatten(1)


@pytest.mark.parametrize("msa", [MSAConfig(), None, MSAConfig(stages=(1, 2, 3), rates=(1, 2), reduction=2)])
def test_with_torchvision_weights_computes_what_torchvision_does(msa, reference, torchvision_file):
    trunk = MSAResNet(msa).eval()
    load_trunk_weights(trunk, torchvision_file)
    x = torch.randn(2, 3, 96, 80)
    with torch.inference_mode():
        assert torch.equal(trunk(x), reference_features(reference, x))


@pytest.mark.parametrize("last_stride", [1, 2])
def test_maps_have_the_documented_sizes(last_stride):
    trunk = MSAResNet(last_stride=last_stride).eval()
    for size, widths in {
        64: [16, 8, 4, 2],
        65: [17, 9, 5, 3],
        96: [24, 12, 6, 3],
        224: [56, 28, 14, 7],
    }.items():
        with torch.inference_mode():
            maps = trunk.stage_maps(torch.randn(1, 3, size, size))
        widths[3] = widths[3] if last_stride == 2 else widths[2]
        assert [m.shape[1:] for m in maps] == [
            (c, w, w) for c, w in zip(trunk.stage_channels, widths, strict=True)
        ]


@pytest.mark.parametrize("shape", [(63, 224), (224, 63)])
def test_too_small_images_are_refused(shape, shared):
    with pytest.raises(ValueError, match="64 px"):
        shared(torch.zeros(1, 3, *shape))


def test_every_parameter_learns_after_one_step():
    torch.manual_seed(0)
    trunk = MSAResNet()
    optimizer = torch.optim.SGD(trunk.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        (trunk(torch.randn(2, 3, 96, 96)) * torch.randn(2, 512)).sum().backward()
        optimizer.step()
    assert [name for name, p in trunk.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_attention_is_reported_by_stage():
    trunk = MSAResNet(MSAConfig(stages=(3, 2))).eval()
    for module in trunk.msa.values():
        nn.init.normal_(module.expand.weight)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        attention = trunk.attention(x)
        assert {stage: tuple(a.spatial_map.shape) for stage, a in attention.items()} == {
            2: (2, 8, 8),
            3: (2, 4, 4),
        }
        assert attention[3].scale_weights.shape == (2, 3, 64)
        _, expected = trunk.msa["3"].attend(trunk.layer3(trunk.stage_maps(x)[1]))
    torch.testing.assert_close(attention[3], expected)
    assert MSAResNet(None).attention(x) == {}


def test_pooled_maps_of_a_stage_come_beside_the_features(shared):
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        maps = shared.stage_maps(x)
        for stage in (1, 2, 3, 4):
            features, aux = shared(x, stage)
            torch.testing.assert_close(features, shared(x))
            torch.testing.assert_close(aux, maps[stage - 1].mean((2, 3)))


def kept_bytes(trunk, x):
    """Return what the forward pass keeps for the backward pass, in bytes, and the result."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = trunk(x)
    return sum(kept.values()), out


@pytest.mark.parametrize(("frozen", "joined"), [(False, False), (True, False), (False, True)])
def test_checkpointed_activations_change_memory_alone(frozen, joined):
    """Gradients and BatchNorm's running statistics included, bit for bit; frozen statistics stay so.

    SyncBatchNorm computes as BatchNorm does where there is one process; its joint statistics need GPUs.
    """
    torch.manual_seed(0)
    plain, saving = MSAResNet(), MSAResNet(checkpoint_activations=True)
    saving.load_state_dict(plain.state_dict())
    if joined:
        saving = nn.SyncBatchNorm.convert_sync_batchnorm(saving)
        assert isinstance(saving.layer1[0].bn1, nn.SyncBatchNorm)
    x, weights = torch.randn(2, 3, 64, 64), torch.randn(2, 512)
    sizes = []
    for trunk in (plain, saving):
        if frozen:
            trunk.train_pretrained(False)
        size, out = kept_bytes(trunk, x)
        sizes.append(size)
        (out * weights).sum().backward()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, saving.state_dict()[name]), name
    for (name, one), (_, other) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    assert plain.layer1[0].bn1.num_batches_tracked == (0 if frozen else 1)
    parameters = sum(4 * p.numel() for p in plain.parameters())
    assert sizes[1] - parameters < (sizes[0] - parameters) / 3 or sizes[1] < sizes[0] / 2


def test_rates_alternate_over_the_blocks_of_a_stage():
    trunk = MSAResNet(MSAConfig(stages=(3,), placement="in_blocks"))
    assert len(trunk.msa) == 0
    dilations = [(b.conv1.dilation[0], b.conv2.dilation[0]) for b in trunk.layer3]
    assert dilations == [(1, 1), (2, 2), (5, 5), (1, 1), (2, 2), (5, 5)]
    assert {conv.dilation for conv in trunk.layer2.modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}
    rates = MSAConfig(rates=(2, 1, 3), stages=(3,), placement="in_blocks")
    assert MSAResNet(rates).layer3[0].conv1.dilation == (1, 1)  # strides by 2, stays as it is
    assert MSAResNet(rates).layer3[0].conv2.dilation == (2, 2)


def test_rates_in_blocks_widen_what_a_stage_reads_and_leave_no_hole():
    trunk = MSAResNet(MSAConfig(stages=(3,), placement="in_blocks")).eval()
    for parameter in trunk.layer3.parameters():
        nn.init.ones_(parameter)
    x = torch.full((1, 256, 61, 61), 1e-3, requires_grad=True)
    y = x
    for block in list(trunk.layer3)[1:4]:  # rates 2, 5, 1, twice each
        y = block(y)
    y[0, 0, 30, 30].backward()
    seen = x.grad[0, 0] != 0
    assert seen[30 - 16 : 30 + 17, 30 - 16 : 30 + 17].all()
    assert seen.sum() == 33**2


def test_weights_fit_with_rates_in_blocks_but_the_function_changes(reference, torchvision_file):
    trunk = MSAResNet(MSAConfig(placement="in_blocks")).eval()
    load_trunk_weights(trunk, torchvision_file)
    assert trunk.state_dict().keys() == {k for k in reference.state_dict() if not k.startswith("fc.")}
    x = torch.randn(1, 3, 64, 64)
    maps = trunk.stage_maps(x)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]
    assert not torch.allclose(trunk(x), reference_features(reference, x))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_other_depths_compute_what_torchvision_does(name, tmp_path):
    torch.manual_seed(0)
    published = torchvision.models.get_model(name, weights=None).eval()
    torch.save(published.state_dict(), tmp_path / "x.pth")
    trunk = MSAResNet(MSAConfig(), name, 64).eval()
    load_trunk_weights(trunk, tmp_path / "x.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps = trunk.stage_maps(x)
        assert torch.equal(trunk(x), reference_features(published, x))
    assert tuple(each.shape[1] for each in maps) == trunk.stage_channels
    assert tuple(64 // each.shape[-1] for each in maps) == trunk.stage_strides
    assert sorted(trunk.attention_modules()) == [1, 2]
    dilated = MSAResNet(MSAConfig((1, 2), (3,), placement="in_blocks"), name)
    assert {conv.dilation for conv in dilated.layer3.modules() if isinstance(conv, nn.Conv2d)} > {(2, 2)}


def test_without_the_pool_of_the_stem_all_maps_are_twice_as_wide():
    trunk = MSAResNet(None, stem_pool=False, last_stride=1).eval()
    with torch.inference_mode():
        assert [each.shape[-1] for each in trunk.stage_maps(torch.randn(1, 3, 64, 64))] == [32, 16, 8, 8]
    assert trunk.stage_strides == (2, 4, 8, 8)


def test_parameters_outside_the_attention_belong_to_the_stem_or_a_stage():
    trunk = MSAResNet()
    stages = {name: stage for name, _, stage in trunk.pretrained_parameters()}
    assert stages.keys() == {name for name, _ in trunk.named_parameters() if not name.startswith("msa.")}
    expected = {name: int(name[5]) if name.startswith("layer") else 0 for name in stages}
    assert stages == expected


def test_rates_that_a_stage_cannot_alternate_are_refused():
    with pytest.raises(ValueError, match=r"4 rates .* stage of 3 blocks"):
        MSAResNet(MSAConfig(rates=(2, 2, 2, 1), stages=(1,), placement="in_blocks"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"stages": (2, 2)},
        {"stages": (0,)},
        {"stages": (5,)},
        {"stages": ()},
        {"placement": "before"},
        {"rates": (2, 2)},
    ],
)
def test_config_refuses_what_cannot_be_built(arguments):
    with pytest.raises(ValueError, match=r"stages|placement|HDC"):
        MSAConfig(**arguments)


def test_config_survives_the_way_through_plain_values():
    config = MSAConfig(rates=[1, 2], stages=[3], allow_gridding=True)
    assert config == MSAConfig(rates=(1, 2), stages=(3,), allow_gridding=True)
    assert MSAConfig(**dataclasses.asdict(config)) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_last_stride_must_be_one_or_two():
    with pytest.raises(ValueError, match="last_stride"):
        MSAResNet(last_stride=3)


@pytest.mark.parametrize(
    ("msa", "image_size", "last_stride", "message"),
    [
        (MSAConfig((1, 2, 5), (4,)), 224, 2, "224 px the map of stage 4 is 7x7: dilation rates [5]"),
        (MSAConfig((1, 2, 5), (3,)), 112, 2, "112 px the map of stage 3 is 7x7: dilation rates [5]"),
        (MSAConfig((1, 2, 3), (4,)), 64, 1, "64 px the map of stage 4 is 4x4: dilation rates [2, 3]"),
        (
            MSAConfig((1, 2, 5), (1,), placement="in_blocks"),
            40,
            2,
            "40 px the map of stage 1 is 10x10: dilation rates [5]",
        ),
    ],
)
def test_rates_of_half_the_map_are_named(msa, image_size, last_stride, message):
    (said,) = padding_dominated_rates(msa, image_size, MSAResNet(None, last_stride=last_stride).stage_strides)
    assert message in said
    assert "--model.msa.rates null --model.msa.stages null fits both" in said


def test_the_default_is_not_named():
    strides = (4, 8, 16, 32)
    for size in range(64, 513):
        assert padding_dominated_rates(MSAConfig().fitted(size, strides), size, strides) == []
    assert padding_dominated_rates(MSAConfig((1, 2, 5), (4,)), 224, (4, 8, 16, 16)) == []
    assert padding_dominated_rates(None, 64, strides) == []


@pytest.mark.parametrize(
    ("size", "strides", "stages", "rates"),
    [
        (224, (4, 8, 16, 32), (2, 3), (1, 2, 5)),
        (128, (4, 8, 16, 32), (2, 3), (1, 2, 3)),
        (64, (4, 8, 16, 32), (1, 2), (1, 2, 3)),
        (64, (2, 4, 8, 16), (2, 3), (1, 2, 3)),
        (512, (4, 8, 16, 32), (3, 4), (1, 2, 5)),
        (64, (8, 16, 32, 64), (1,), (1, 2, 3)),
    ],
)
def test_missing_stages_and_rates_are_fitted_to_the_maps(size, strides, stages, rates):
    fitted = MSAConfig(reduction=2).fitted(size, strides)
    assert (fitted.stages, fitted.rates, fitted.reduction) == (stages, rates, 2)
    assert MSAConfig(stages=(4,)).fitted(128, (4, 8, 16, 32)).rates == (1,)
    assert MSAConfig(rates=(1, 2)).fitted(size, strides).rates == (1, 2)


def as_checkpoint(state):
    return {"state_dict": {f"trunk.{key}": value for key, value in state.items()} | {"age.b": torch.ones(2)}}


@pytest.mark.parametrize("wrap", [dict, as_checkpoint])
def test_own_weights_load_with_attention(wrap, tmp_path):
    saved, loaded = MSAResNet(), MSAResNet()
    nn.init.normal_(saved.msa["2"].expand.weight)
    torch.save(wrap(saved.state_dict()), tmp_path / "w.ckpt")
    load_trunk_weights(loaded, tmp_path / "w.ckpt")
    for key, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_torchvision_weights_leave_attention_as_it_is(torchvision_file):
    trunk = MSAResNet()
    before = {key: value.clone() for key, value in trunk.msa.state_dict().items()}
    load_trunk_weights(trunk, str(torchvision_file))
    assert all(torch.equal(value, before[key]) for key, value in trunk.msa.state_dict().items())


def test_old_torchvision_files_without_counters_load(reference, tmp_path):
    state = {k: v for k, v in reference.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    load_trunk_weights(MSAResNet(), tmp_path / "old.pth")


def assert_nothing_loads(weights, trunk: MSAResNet, *messages: str) -> None:
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_trunk_weights(trunk, weights)
    for message in messages:
        assert message in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())


def test_every_key_that_does_not_fit_is_listed_and_nothing_is_loaded(reference, shared, tmp_path):
    state = reference.state_dict()
    del state["layer1.0.conv1.weight"], state["bn1.bias"]
    state |= {
        "conv1.weight": torch.zeros(64, 1, 7, 7),
        "bn1.weight": torch.zeros(32),
        "extra": torch.zeros(2),
    }
    torch.save(state, tmp_path / "bad.pth")
    assert_nothing_loads(
        tmp_path / "bad.pth",
        shared,
        "bad.pth",
        "missing: layer1.0.conv1.weight (64, 64, 3, 3)",
        "missing: bn1.bias (64,)",
        "unexpected: extra (2,)",
        "shape of conv1.weight: (64, 1, 7, 7) in the file, (64, 3, 7, 7) in the trunk",
        "shape of bn1.weight: (32,) in the file, (64,) in the trunk",
    )


def test_own_weights_of_other_stages_do_not_fit(shared, tmp_path):
    torch.save(MSAResNet(MSAConfig(stages=(2,))).state_dict(), tmp_path / "own.pth")
    assert_nothing_loads(tmp_path / "own.pth", shared, "missing: msa.3.expand.weight (256, 64, 1, 1)")
    assert_nothing_loads(tmp_path / "own.pth", MSAResNet(None), "unexpected: msa.2.expand.weight")


class Opaque:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or truncated"),
        (b"no weights here", "Python objects"),
        (b"PK\x03\x04 cut off", "damaged or truncated"),
        (Opaque(), "Python objects"),
        ([1, 2], "no state dict"),
        ({}, "no state dict"),
        ({"epoch": 3}, "no state dict"),
        ({"state_dict": {"model.conv1.weight": torch.zeros(1)}}, "without trunk."),
    ],
)
def test_files_that_hold_no_weights_are_named(content, message, shared, tmp_path):
    path = tmp_path / "some.file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert_nothing_loads(path, shared, "some.file", message)


def test_a_missing_file_is_named(shared, tmp_path):
    assert_nothing_loads(tmp_path / "gone.pth", shared, "gone.pth does not exist")
    assert_nothing_loads(tmp_path, shared, "does not exist")


def test_none_keeps_the_random_start():
    trunk = MSAResNet()
    before = trunk.conv1.weight.clone()
    load_trunk_weights(trunk, None)
    assert torch.equal(trunk.conv1.weight, before)


def test_imagenet_weights_come_from_torchvision(monkeypatch, reference):
    def download(self, progress, check_hash):
        assert self is ResNet34_Weights.IMAGENET1K_V1
        assert check_hash
        return reference.state_dict()

    monkeypatch.setattr(ResNet34_Weights, "get_state_dict", download)
    trunk = MSAResNet()
    load_trunk_weights(trunk, "imagenet")
    assert torch.equal(trunk.conv1.weight, reference.conv1.weight)


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("offline"), ConnectionResetError(), RuntimeError("invalid hash value")]
)
def test_a_failed_download_says_what_to_do(error, shared, monkeypatch):
    def download(self, progress, check_hash):
        raise error

    monkeypatch.setattr(ResNet34_Weights, "get_state_dict", download)
    assert_nothing_loads(
        "imagenet", shared, "--model.weights /path/to/resnet34-b627a593.pth", "--model.weights null"
    )


def test_modules_are_keyed_by_stage():
    trunk = MSAResNet(MSAConfig(stages=(3, 1)))
    assert list(trunk.msa) == ["1", "3"]
    assert all(isinstance(module, MultiScaleAttention) for module in trunk.msa.values())
    assert not [key for key in trunk.state_dict() if re.match("fc", key)]


class Foreign:
    """What a file of weights must not hold."""


def test_a_file_of_other_objects_is_refused_in_our_words(tmp_path):
    file = tmp_path / "w.pt"
    torch.save({"weights": Foreign()}, file)
    with pytest.raises(CheckpointError, match="Python objects") as refused:
        load_trunk_weights(MSAResNet(MSAConfig()), file)
    assert "torch.load" not in str(refused.value)
