"""Train variants of multi-scale attention that are not part of the package, to find out which one helps.

    python benchmarks/attention_variants.py add --config utkface.yaml --run_dir runs/add/fold0-seed0
    python benchmarks/attention_variants.py gate --config utkface.yaml --run_dir runs/gate/fold0-seed0
    mtmsa compare runs/gate runs/add

The first argument is a variant, all others are those of `mtmsa fit`. Every variant but the last starts as the
identity. A trained variant is tested at the end of its run; other commands cannot read its checkpoint.
"""

import sys
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from mtmsa_lightning.cli.main import main as mtmsa
from mtmsa_lightning.models.backbones import resnet
from mtmsa_lightning.models.backbones.msa import MSAAttention, MSAConfig, MultiScaleAttention


class Additive(MultiScaleAttention):
    """Adds the expanded scales to the map instead of gating it: ``x + expand(u)``."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x + self.expand(self._fuse(x)[0])

    def attend(self, x: Tensor) -> tuple[Tensor, MSAAttention]:  # noqa: D102
        fused, weights = self._fuse(x)
        added = self.expand(fused)
        return x + added, MSAAttention(weights, added.float().mean(dim=1))


class GateAndAdd(MultiScaleAttention):
    """Gates the map and adds to it: ``x (1 + tanh(expand(u))) + add(u)``."""

    def __init__(self, channels: int, *settings: object, **named: object) -> None:
        super().__init__(channels, *settings, **named)  # type: ignore[arg-type]
        self.add = nn.Conv2d(self.expand.in_channels, channels, kernel_size=1)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.attend(x)[0]

    def attend(self, x: Tensor) -> tuple[Tensor, MSAAttention]:  # noqa: D102
        fused, weights = self._fuse(x)
        gate = self.expand(fused).tanh()
        return x + x * gate + self.add(fused), MSAAttention(weights, gate.float().mean(dim=1))


class NormalisedGate(MultiScaleAttention):
    """Normalises the gate before its tanh, so that its size is one learned factor per channel.

    The factors start at 0. Without the normalisation the size of the gate depends on that of the fused
    scales, which weight decay and the softmax over scales keep small.
    """

    def __init__(self, channels: int, *settings: object, **named: object) -> None:
        super().__init__(channels, *settings, **named)  # type: ignore[arg-type]
        convolution = nn.Conv2d(self.expand.in_channels, channels, kernel_size=1, bias=False)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.expand = nn.Sequential(convolution, norm)  # type: ignore[assignment]


class NormalisedSelection(MultiScaleAttention):
    """Normalises the hidden layer that weighs the scales (Li et al., CVPR 2019, equation 3)."""

    def __init__(self, *settings: object, **named: object) -> None:
        super().__init__(*settings, **named)  # type: ignore[arg-type]
        first, activation, last = self.select
        assert isinstance(first, nn.Linear)
        self.select = nn.Sequential(first, nn.BatchNorm1d(first.out_features), activation, last)


def add_both(trunk: resnet.MSAResNet, msa: MSAConfig) -> None:
    """Add attention modules after the stages, and alternate the rates inside their blocks from stage 2 on."""
    _add_attention(trunk, msa)
    for stage in sorted(msa.stages or ()):
        blocks = getattr(trunk, f"layer{stage}")
        if len(blocks) >= len(msa.rates or ()):
            resnet._dilate_blocks(blocks, msa.rates or ())


_add_attention = resnet.MSAResNet._add_attention

VARIANTS: dict[str, type[MultiScaleAttention] | Callable[[resnet.MSAResNet, MSAConfig], None]] = {
    "gate": MultiScaleAttention,
    "add": Additive,
    "gate_and_add": GateAndAdd,
    "normalised_gate": NormalisedGate,
    "normalised_selection": NormalisedSelection,
    "modules_and_blocks": add_both,
}
"""Attention by name: a module, or a function that adds it to a trunk. ``gate`` is that of the package."""


def use(name: str) -> None:
    """Build ResNets of this process with a variant."""
    variant = VARIANTS[name]
    if isinstance(variant, type):
        resnet.MultiScaleAttention = variant  # type: ignore[attr-defined,assignment]
    else:
        resnet.MSAResNet._add_attention = variant  # type: ignore[assignment]


def main(args: Sequence[str]) -> int:
    if not args or args[0] not in VARIANTS:
        print(__doc__, f"variants: {', '.join(VARIANTS)}", sep="\n", file=sys.stderr)
        return 2
    use(args[0])
    mtmsa(["fit", *args[1:]])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
