"""Multi-scale attention (MSA): a gate computed from a chain of dilated convolutions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

RATES = (1, 2, 5)
"""Default dilation rates: they read every cell of a field of 17."""

REDUCTION = 4
"""Default divisor of the channels inside the module."""


class MSAAttention(NamedTuple):
    """The attention of a :class:`MultiScaleAttention`, for inspection.

    Attributes:
        scale_weights: ``(N, S, c)``, weight of each of the S scales in each reduced channel; sums to 1 over
            S.
        spatial_map: ``(N, H, W)``, gate averaged over channels, in (-1, 1); positive values amplify.
    """

    scale_weights: Tensor
    spatial_map: Tensor


def dilation_coverage(rates: Sequence[int]) -> tuple[int, int]:
    """Return the width in cells of the receptive field of a chain of dilated 3x3 convolutions along one axis.

    Also returns how many of its cells are read: the distinct sums of one of ``{-r, 0, r}`` per rate.

    >>> dilation_coverage((1, 2, 5)), dilation_coverage((2, 2, 2))
    ((17, 17), (13, 7))
    """
    read = {0}
    for rate in rates:
        read = {cell + step for cell in read for step in (-rate, 0, rate)}
    return 1 + 2 * sum(rates), len(read)


def check_rates(rates: Sequence[int], allow_gridding: bool = False) -> None:
    """Check that rates are positive integers and, unless allowed, leave no holes in the receptive field.

    The rule is that of hybrid dilated convolution (HDC; Wang et al., "Understanding Convolution for Semantic
    Segmentation", WACV 2018, section 3.2). Coverage is counted instead of the paper's ``M_2``, which passes
    ``(2, 2, 2)`` although that chain reads 7 of 13 cells.

    Raises:
        ValueError: If a rate is not a positive integer, there are no rates, or cells are left unread.
    """
    if not rates or any(not isinstance(rate, int) or rate < 1 for rate in rates):
        raise ValueError(f"dilation rates must be one or more positive integers, got {list(rates)}")
    field, read = dilation_coverage(rates)
    if read < field and not allow_gridding:
        raise ValueError(
            f"dilation rates {list(rates)} break the rule of hybrid dilated convolution (HDC; Wang et al., "
            f"WACV 2018): the chain reads {read} of the {field} positions along each axis and never sees the "
            "others (gridding). Use rates that leave no hole, such as 1, 2, 5, or set allow_gridding=True "
            "for an ablation."
        )


FIT = (RATES, (1, 2, 3), (1, 2), (1,))
"""Chains of rates without holes, widest first: :meth:`MSAConfig.fitted` takes the first that fits."""

MIN_ATTENDED = 8
"""Narrowest map in cells that :meth:`MSAConfig.fitted` gives attention."""


@dataclass(frozen=True)
class MSAConfig:
    """Configuration of the multi-scale attention in the trunk.

    Attributes:
        rates: Dilation rates of the chain of 3x3 convolutions; None fits them to the input.
        stages: Stages of the trunk, 1 to 4, with attention; None fits them to the input.
        reduction: Divisor of the channels inside the attention module.
        placement: ``after_stage`` adds an attention module after each stage; ``in_blocks`` adds no module and
            alternates the rates over the residual blocks of the stages.
        allow_gridding: Accept rates that leave holes in the receptive field (for ablations).

    Raises:
        ValueError: If stages are unknown or repeated, the placement is unknown or the rates leave holes.
    """

    rates: tuple[int, ...] | None = None
    stages: tuple[int, ...] | None = None
    reduction: int = REDUCTION
    placement: Literal["after_stage", "in_blocks"] = "after_stage"
    allow_gridding: bool = False

    def __post_init__(self) -> None:
        if self.rates is not None:
            object.__setattr__(self, "rates", tuple(self.rates))
            check_rates(self.rates, self.allow_gridding)
        if self.stages is not None:
            object.__setattr__(self, "stages", tuple(self.stages))
            different = len(set(self.stages)) == len(self.stages) > 0
            if not different or not {1, 2, 3, 4}.issuperset(self.stages):
                raise ValueError(f"stages must be different ones of 1, 2, 3, 4, got {list(self.stages)}")
        if self.placement not in ("after_stage", "in_blocks"):
            raise ValueError(f"placement must be after_stage or in_blocks, got {self.placement!r}")

    def fitted(self, image_size: int, strides: Sequence[int]) -> Self:
        """Return the configuration with rates and stages for an input size, where they are None.

        Stages are the last two with a map of at least :data:`MIN_ATTENDED` cells a side: 2 and 3 of a ResNet
        at 224 px (28 and 14 cells), 1 and 2 at 64 px (16 and 8). Rates are the widest chain of :data:`FIT`
        whose rates stay below half of the smallest of these maps: 1, 2, 5 and 1, 2, 3.

        Args:
            image_size: Side of the input in pixels.
            strides: Pixels per cell of the four stages.
        """
        widths = map_widths(image_size, strides)
        wide = [stage for stage, width in widths.items() if width >= MIN_ATTENDED]
        stages = self.stages or tuple(wide[-2:]) or (1,)
        narrowest = min(widths[stage] for stage in stages)
        rates = self.rates or next((each for each in FIT if 2 * max(each) < narrowest), FIT[-1])
        return replace(self, rates=rates, stages=stages)


def map_widths(image_size: int, strides: Sequence[int]) -> dict[int, int]:
    """Return the side in cells of the map after each stage, 1 to 4; every halving rounds up."""
    return {stage: -(-image_size // stride) for stage, stride in enumerate(strides, 1)}


def padding_dominated_rates(msa: MSAConfig | None, image_size: int, strides: Sequence[int]) -> list[str]:
    """Return a warning for each stage with given rates that span half its map or more."""
    warnings = []
    widths = map_widths(image_size, strides)
    for stage in msa.stages or () if msa else ():
        rates = msa.rates or () if msa else ()
        wide = [rate for rate in rates if 2 * rate >= widths[stage]]
        if wide:
            warnings.append(
                f"at {image_size} px the map of stage {stage} is {widths[stage]}x{widths[stage]}: dilation "
                f"rates {wide} span half of it or more and read mostly padding: harmless; --model.msa.rates "
                "null --model.msa.stages null fits both to the input"
            )
    return warnings


def _convolution(inputs: int, outputs: int, kernel_size: int = 3, dilation: int = 1) -> nn.Sequential:
    """Build torchvision's ``Conv2dNormActivation``, whose import would double this module's import time."""
    padding = (kernel_size - 1) // 2 * dilation
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class MultiScaleAttention(nn.Module):
    """Gate a feature map by features of several scales.

    A 1x1 convolution reduces the map to ``c = channels // reduction``. A chain of 3x3 convolutions with the
    given dilation rates follows; the output of each is a scale. The scales are fused channel by channel with
    softmax weights (Li et al., "Selective Kernel Networks", CVPR 2019, equations 1 and 3-6), and the fused
    map ``u`` gates the input: ``out = x (1 + tanh(expand(u)))``. ``expand`` is initialised with zeros, so
    that a new module is exactly the identity and leaves a pretrained network unchanged.

    Args:
        channels: Channels C of the input and of the output.
        rates: Dilation rates of the chain, one per scale.
        reduction: Divisor of the channels inside the module.
        allow_gridding: Accept rates that leave holes, see :func:`check_rates`.

    Shape:
        Input and output ``(N, C, H, W)``.

    Raises:
        ValueError: If the rates leave holes or the reduction leaves no channel.
    """

    def __init__(
        self,
        channels: int,
        rates: Sequence[int] = RATES,
        reduction: int = REDUCTION,
        allow_gridding: bool = False,
    ) -> None:
        super().__init__()
        check_rates(rates, allow_gridding)
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction must lie between 1 and the {channels} channels, got {reduction}")
        width = channels // reduction
        hidden = max(width // reduction, 32)  # SK networks, equation 4, with their floor L = 32
        self.reduce = _convolution(channels, width, kernel_size=1)
        self.scales = nn.ModuleList(_convolution(width, width, dilation=rate) for rate in rates)
        self.select = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, len(rates) * width)
        )
        self.expand = nn.Conv2d(width, channels, kernel_size=1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map, ``(N, C, H, W)``."""
        gate, _ = self._gate(x)
        return torch.addcmul(x, x, gate)  # x + x * gate in one pass over memory

    def attend(self, x: Tensor) -> tuple[Tensor, MSAAttention]:
        """Return the gated map as :meth:`forward` does, and the attention."""
        gate, weights = self._gate(x)
        return torch.addcmul(x, x, gate), MSAAttention(weights, gate.float().mean(dim=1))

    def _gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signed gate ``(N, C, H, W)`` and the scale weights ``(N, S, c)``."""
        fused, weights = self._fuse(x)
        return self.expand(fused).tanh_(), weights  # in place to save memory

    def _fuse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused scales ``(N, c, H, W)`` and their weights ``(N, S, c)``."""
        scales = []
        scale = self.reduce(x)
        for conv in self.scales:
            scale = conv(scale)
            scales.append(scale)
        weights = self._scale_weights(scales)
        # The scales are accumulated, not stacked: a stack would copy all of them.
        first, *others = weights.to(scale.dtype)[..., None, None].unbind(dim=1)
        fused = first * scales[0]
        for weight, scale in zip(others, scales[1:], strict=True):
            fused = torch.addcmul(fused, weight, scale)
        return fused, weights

    def _scale_weights(self, scales: list[Tensor]) -> Tensor:
        """Return the softmax over scales, ``(N, S, c)``, from the global average of their sum."""
        pooled = torch.stack([scale.mean(dim=(2, 3)) for scale in scales]).sum(dim=0)
        logits: Tensor = self.select(pooled)
        weights = logits.view(logits.shape[0], len(scales), -1)  # len() would fix an export's batch
        return weights.softmax(dim=1)
