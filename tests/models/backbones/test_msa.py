import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from mtmsa_lightning.models.backbones.msa import MultiScaleAttention, check_rates, dilation_coverage

RATES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def cells_read(rates: list[int]) -> Tensor:
    """Return which input cells move one output cell of the chain with all-ones kernels, by autograd."""
    reach = sum(rates)
    x = torch.zeros(1, 1, 2 * reach + 3, 2 * reach + 3, requires_grad=True)
    y: Tensor = x
    for rate in rates:
        conv = nn.Conv2d(1, 1, 3, padding=rate, dilation=rate, bias=False)
        nn.init.ones_(conv.weight)
        y = conv(y)
    y[0, 0, reach + 1, reach + 1].backward()
    assert x.grad is not None
    return x.grad[0, 0] != 0


@pytest.mark.parametrize(("rates", "field"), [((1, 2, 5), 17), ((1, 2, 3), 13), ((1,), 3), ((5, 2, 1), 17)])
def test_rates_without_holes_are_accepted(rates, field):
    check_rates(rates)
    assert dilation_coverage(rates) == (field, field)


@pytest.mark.parametrize(("rates", "read", "field"), [((2, 2, 2), 7, 13), ((1, 2, 9), 21, 25), ((2,), 3, 5)])
def test_rates_with_holes_are_refused_unless_allowed(rates, read, field):
    with pytest.raises(
        ValueError, match=rf"HDC.*WACV 2018.*{read} of the {field} positions.*1, 2, 5.*allow_gr"
    ):
        check_rates(rates)
    check_rates(rates, allow_gridding=True)


@pytest.mark.parametrize("rates", [(), (0, 1), (1, -2), (1.0, 2.0)])
def test_rates_must_be_positive_integers(rates):
    with pytest.raises(ValueError, match="positive integers"):
        check_rates(rates, allow_gridding=True)


@given(RATES)
def test_coverage_is_what_the_gradient_of_one_output_cell_reads(rates):
    field, read = dilation_coverage(rates)
    seen = cells_read(rates)
    assert seen.sum() == read**2
    assert field == len(seen) - 2
    assert seen[1:-1, 1:-1].all() == (read == field)


def test_starts_as_the_identity_bit_for_bit():
    x = torch.randn(2, 32, 9, 7)
    for module in (MultiScaleAttention(32).train(), MultiScaleAttention(32).eval()):
        assert torch.equal(module(x), x)
        out, attention = module.attend(x)
        assert torch.equal(out, x)
        assert torch.equal(attention.spatial_map, torch.zeros(2, 9, 7))


def test_only_the_expansion_starts_at_zero():
    zero = {name for name, p in MultiScaleAttention(32).named_parameters() if not p.any()}
    assert {name for name in zero if not name.endswith(".1.bias")} == {"expand.weight", "expand.bias"}


def opened(**kwargs) -> MultiScaleAttention:
    """Return a module whose gate is no longer closed."""
    module = MultiScaleAttention(16, **kwargs)
    nn.init.normal_(module.expand.weight, std=0.5)
    return module.eval()


def test_every_parameter_learns_after_one_step():
    torch.manual_seed(0)
    module = MultiScaleAttention(32)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (module(torch.randn(4, 32, 8, 8)) * torch.randn(4, 32, 8, 8)).sum().backward()
        optimizer.step()
    still = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_matches_the_formula_written_out():
    module, x = opened(rates=(1, 2, 3)), torch.randn(2, 16, 8, 8)
    scales, scale = [], module.reduce(x)
    for conv in module.scales:
        scales.append(scale := conv(scale))
    stacked = torch.stack(scales, 1)
    logits = module.select(stacked.sum(1).mean((2, 3))).reshape(2, 3, 4)
    weights = logits.exp() / logits.exp().sum(1, keepdim=True)
    gate = torch.tanh(module.expand((weights[..., None, None] * stacked).sum(1)))
    out, attention = module.attend(x)
    torch.testing.assert_close(out, x * (1 + gate))
    torch.testing.assert_close(module(x), x * (1 + gate))
    torch.testing.assert_close(attention.scale_weights, weights)
    torch.testing.assert_close(attention.spatial_map, gate.mean(1))


def test_scale_weights_sum_to_one_and_one_scale_gets_all():
    _, attention = opened().attend(torch.randn(2, 16, 8, 8))
    torch.testing.assert_close(attention.scale_weights.sum(1), torch.ones(2, 4))
    _, attention = opened(rates=(1,)).attend(torch.randn(2, 16, 8, 8))
    assert torch.equal(attention.scale_weights, torch.ones(2, 1, 4))


def test_keeps_channels_last_and_gives_the_same_values():
    module, x = opened(), torch.randn(2, 16, 8, 8)
    out = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, module(x))


def test_autocast_stays_near_float32():
    module, x = opened(), torch.randn(2, 16, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    torch.testing.assert_close(out.float(), module(x), rtol=0.05, atol=0.05)


def test_has_one_graph_for_the_compiler():
    module, x = opened(), torch.randn(1, 16, 8, 8)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.parametrize("reduction", [0, 17])
def test_reduction_must_leave_a_channel(reduction):
    with pytest.raises(ValueError, match="reduction"):
        MultiScaleAttention(16, reduction=reduction)


@pytest.mark.parametrize("rate", [1, 2, 5])
def test_its_convolutions_are_torchvisions_block_of_three(rate):
    torch.manual_seed(0)
    ours = MultiScaleAttention(8, rates=(rate,), reduction=2, allow_gridding=True)
    torch.manual_seed(0)
    theirs = Conv2dNormActivation(8, 4, kernel_size=1), Conv2dNormActivation(4, 4, dilation=rate)
    x = torch.randn(2, 8, 16, 16)
    for block, reference in zip((ours.reduce, ours.scales[0]), theirs, strict=True):
        assert block.state_dict().keys() == reference.state_dict().keys()
        torch.testing.assert_close(block(x), reference(x), rtol=0, atol=0)
        x = reference(x)
