"""ResNet-34 trunk with multi-scale attention."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, ResNet

from mtmsa_lightning.models.backbones.msa import (
    RATES,
    REDUCTION,
    MSAAttention,
    MultiScaleAttention,
    check_rates,
)

MIN_IMAGE_SIZE = 64
"""Smallest side of an input in pixels: there the last map is 2 cells wide."""

LAST_STRIDE = 2
"""Stride of stage 4, as published."""

_BLOCKS = (3, 4, 6, 3)


@dataclass(frozen=True)
class MSAConfig:
    """Configuration of the multi-scale attention in the trunk.

    At 224 px the maps after stages 1 to 4 are 56, 28, 14 and 7 cells wide. A rate of 5 stays below half the
    map at stages 2 and 3 and reads mostly padding at stage 4; at stage 1 memory traffic dominates.

    Attributes:
        rates: Dilation rates of the chain of 3x3 convolutions.
        stages: Stages of the ResNet, 1 to 4, with attention.
        reduction: Divisor of the channels inside the attention module.
        placement: ``after_stage`` adds an attention module after each stage; ``in_blocks`` adds no module and
            alternates the rates over the residual blocks of the stages.
        allow_gridding: Accept rates that leave holes in the receptive field (for ablations).

    Raises:
        ValueError: If stages are unknown or repeated, the placement is unknown or the rates leave holes.
    """

    rates: tuple[int, ...] = RATES
    stages: tuple[int, ...] = (2, 3)
    reduction: int = REDUCTION
    placement: Literal["after_stage", "in_blocks"] = "after_stage"
    allow_gridding: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", tuple(self.rates))
        object.__setattr__(self, "stages", tuple(self.stages))
        check_rates(self.rates, self.allow_gridding)
        different = len(set(self.stages)) == len(self.stages) > 0
        if not different or not {1, 2, 3, 4}.issuperset(self.stages):
            raise ValueError(f"stages must be different ones of 1, 2, 3, 4, got {list(self.stages)}")
        if self.placement not in ("after_stage", "in_blocks"):
            raise ValueError(f"placement must be after_stage or in_blocks, got {self.placement!r}")


_DEFAULT_MSA = MSAConfig()


class MSAResNet34(ResNet):  # type: ignore[misc]
    """ResNet-34 without its classifier, with multi-scale attention in chosen stages.

    Every parameter outside ``msa`` keeps its torchvision name and shape, so that ImageNet weights can be
    loaded. With them a new trunk equals torchvision's network, because each attention module starts as the
    identity. With ``placement="in_blocks"`` the weights can be loaded too, but the function changes.

    Args:
        msa: Attention; None gives the plain ResNet-34.
        last_stride: Stride of stage 4: 2 as published, or 1 for a last map of twice the width.
        checkpoint_activations: Store only the inputs of stem, residual blocks and attention for the backward
            pass, and recompute the activations inside them (Chen et al., "Training Deep Nets with Sublinear
            Memory Cost", 2016). Saves memory for one more forward pass; results and gradients are the same.

    Shape:
        Input ``(N, 3, H, W)`` with sides of at least 64 px, output ``(N, 512)``.

    Raises:
        ValueError: If ``last_stride`` is neither 1 nor 2, or a stage has fewer blocks than rates.
    """

    stage_channels = (64, 128, 256, 512)

    def __init__(
        self,
        msa: MSAConfig | None = _DEFAULT_MSA,
        last_stride: int = LAST_STRIDE,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__(BasicBlock, list(_BLOCKS))
        del self.fc
        self.checkpoint_activations = checkpoint_activations
        self.msa = nn.ModuleDict()
        if last_stride not in (1, 2):
            raise ValueError(f"last_stride must be 1 or 2, got {last_stride}")
        first = self.layer4[0]
        first.stride = last_stride
        first.conv1.stride = first.downsample[0].stride = (last_stride, last_stride)
        if msa is None:
            return
        for stage in sorted(msa.stages):
            if msa.placement == "in_blocks":
                _dilate_blocks(getattr(self, f"layer{stage}"), msa.rates)
            else:
                channels = self.stage_channels[stage - 1]
                attention = MultiScaleAttention(channels, msa.rates, msa.reduction, msa.allow_gridding)
                self.msa[str(stage)] = attention

    def forward(self, x: Tensor, aux_stage: int | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the pooled features, ``(N, 512)``, of normalised images.

        With ``aux_stage`` the pooled map of that stage, ``(N, stage_channels[aux_stage - 1])``, is returned
        too.
        """
        maps = self.stage_maps(x)
        features = maps[-1].mean((2, 3))
        if aux_stage is None:
            return features
        return features, features if aux_stage == 4 else maps[aux_stage - 1].mean((2, 3))

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """Return the output maps of the four stages, ``(N, stage_channels[i], H_i, W_i)``."""
        x = self._run(self._stem, self.bn1, x)
        maps = []
        for stage, layer in self._stages():
            for block in layer:
                x = self._run(block, block, x)
            if stage in self.msa:
                x = self._run(self.msa[stage], self.msa[stage], x)
            maps.append(x)
        return maps

    def _run(self, part: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Tensor:
        """Run a part of the network, with checkpointing if it is on; ``module`` has its BatchNorm layers."""
        if not (self.checkpoint_activations and self.training):
            return part(x)
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        if not torch.compiler.is_compiling():  # a compiler updates the running statistics once
            options["context_fn"] = lambda: (nullcontext(), _statistics_kept(module))
        kept: Tensor = checkpoint(part, x, **options)
        return kept

    def attention(self, x: Tensor) -> dict[int, MSAAttention]:
        """Return the attention by stage; empty without attention modules."""
        x = self._stem(x)
        attended = {}
        for stage, layer in self._stages():
            x = layer(x)
            if stage in self.msa:
                x, attended[int(stage)] = cast(MultiScaleAttention, self.msa[stage]).attend(x)
        return attended

    def resnet_modules(self) -> list[nn.Module]:
        """Return torchvision's modules, without the attention modules."""
        return [module for name, module in self.named_children() if name != "msa"]

    def _stem(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < MIN_IMAGE_SIZE:
            raise ValueError(f"images need {MIN_IMAGE_SIZE} px a side, got {tuple(x.shape[-2:])}")
        return cast(Tensor, self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def _stages(self) -> Iterator[tuple[str, nn.Sequential]]:
        return zip("1234", (self.layer1, self.layer2, self.layer3, self.layer4), strict=True)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of BatchNorm layers, which the first computation has updated."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, counter) in zip(norms, kept, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = None if counter is None else counter.clone()  # SyncBatchNorm needs one
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter


def _dilate_blocks(blocks: Sequence[BasicBlock], rates: tuple[int, ...]) -> None:
    """Alternate the rates over residual blocks, in their 3x3 convolutions of stride 1."""
    if len(blocks) < len(rates):
        raise ValueError(
            f"{len(rates)} rates {list(rates)} cannot alternate over a stage of {len(blocks)} blocks: "
            "skipping rates could leave holes"
        )
    for rate, block in zip(cycle(rates), blocks, strict=False):
        for conv in (block.conv1, block.conv2):
            if conv.stride == (1, 1):
                conv.dilation = conv.padding = (rate, rate)


def padding_dominated_rates(msa: MSAConfig | None, last_stride: int, image_size: int) -> list[str]:
    """Return a warning for each stage with rates that span half its map or more."""
    if msa is None:
        return []
    strides = {1: 4, 2: 8, 3: 16, 4: 16 * last_stride}
    warnings = []
    for stage in msa.stages:
        width = -(-image_size // strides[stage])  # every halving rounds up
        wide = [rate for rate in msa.rates if 2 * rate >= width]
        narrow = ",".join(str(rate) for rate in msa.rates if rate not in wide)
        if wide:
            warnings.append(
                f"at {image_size} px the map of stage {stage} is {width}x{width}: dilation rates {wide} span "
                "half of it or more and read mostly padding: harmless"
                + (f"; --model.msa.rates [{narrow}] avoids it" if narrow else "")
            )
    return warnings
