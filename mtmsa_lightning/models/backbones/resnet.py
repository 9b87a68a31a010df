"""torchvision's ResNets as trunks with multi-scale attention."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from http.client import HTTPException
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, WeightsEnum
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.models.backbones.msa import MSAConfig, MultiScaleAttention
from mtmsa_lightning.models.backbones.trunk import LAST_STRIDE, Trunk, check_image_size
from mtmsa_lightning.settings.defaults import IMAGE_SIZE

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages of ResNet-18 and -34; ResNet-50 has four times as many."""

RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...], type[WeightsEnum]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), ResNet18_Weights),
    "resnet34": (BasicBlock, (3, 4, 6, 3), ResNet34_Weights),
    "resnet50": (Bottleneck, (3, 4, 6, 3), ResNet50_Weights),
}
"""Block, blocks of the four stages, and weights of the ResNets, by torchvision's names."""

_DEFAULT_MSA = MSAConfig()


class MSAResNet(Trunk, ResNet):  # type: ignore[misc]
    """A ResNet without its classifier, with multi-scale attention in chosen stages.

    Every parameter outside ``msa`` keeps its torchvision name and shape, so that ImageNet weights can be
    loaded. With them a new trunk equals torchvision's network, because each attention module starts as the
    identity. With ``placement="in_blocks"`` the weights can be loaded too, but the function changes.

    Args:
        msa: Attention; None gives the plain ResNet.
        name: One of :data:`RESNETS`.
        image_size: Side of the input in pixels, to which missing rates and stages of ``msa`` are fitted.
        last_stride: Stride of stage 4: 2 as published, or 1 for a last map of twice the width.
        stem_pool: Keep the max-pool of the stem; without it all maps have twice the width.
        checkpoint_activations: Store only the inputs of stem, residual blocks and attention for the backward
            pass, and recompute the activations inside them (Chen et al., "Training Deep Nets with Sublinear
            Memory Cost", 2016). Saves memory for one more forward pass; results and gradients are the same.

    Raises:
        ValueError: If ``last_stride`` is neither 1 nor 2, or a stage has fewer blocks than rates.
    """

    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        msa: MSAConfig | None = _DEFAULT_MSA,
        name: str = "resnet34",
        image_size: int = IMAGE_SIZE,
        last_stride: int = LAST_STRIDE,
        stem_pool: bool = True,
        checkpoint_activations: bool = False,
    ) -> None:
        block, blocks, self.published = RESNETS[name]
        super().__init__(block, list(blocks))
        del self.fc
        self.checkpoint_activations = checkpoint_activations
        self.msa = nn.ModuleDict()
        if last_stride not in (1, 2):
            raise ValueError(f"last_stride must be 1 or 2, got {last_stride}")
        first: Any = self.layer4[0]
        first.stride = last_stride
        for conv in (first.conv1 if block is BasicBlock else first.conv2, first.downsample[0]):
            conv.stride = (last_stride, last_stride)
        if not stem_pool:
            self.maxpool = nn.Identity()
        self.stage_channels = tuple(width * block.expansion for width in WIDTHS)
        stem = 4 if stem_pool else 2
        self.stage_strides = (stem, 2 * stem, 4 * stem, 4 * stem * last_stride)
        if msa is not None:
            self._add_attention(msa.fitted(image_size, self.stage_strides))

    def _add_attention(self, msa: MSAConfig) -> None:
        rates = msa.rates or ()
        for stage in sorted(msa.stages or ()):
            if msa.placement == "in_blocks":
                _dilate_blocks(getattr(self, f"layer{stage}"), rates)
            else:
                channels = self.stage_channels[stage - 1]
                attention = MultiScaleAttention(channels, rates, msa.reduction, msa.allow_gridding)
                self.msa[str(stage)] = attention

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """Return the output maps of the four stages, ``(N, stage_channels[i], H_i, W_i)``."""
        check_image_size(x)
        x = self._run(self._stem, self.bn1, x)
        maps = []
        for stage, layer in zip("1234", (self.layer1, self.layer2, self.layer3, self.layer4), strict=True):
            for block in layer:
                x = self._run(block, block, x)
            if stage in self.msa:
                x = self._run(self.msa[stage], self.msa[stage], x)
            maps.append(x)
        return maps

    def _stem(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return cast(Tensor, self.maxpool(self.relu(self.bn1(x))))

    def _run(self, part: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Tensor:
        """Run a part of the network, with checkpointing if it is on; ``module`` has its BatchNorm layers."""
        if not (self.checkpoint_activations and self.training):
            return part(x)
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        if not torch.compiler.is_compiling():  # a compiler updates the running statistics once
            options["context_fn"] = lambda: (nullcontext(), _statistics_kept(module))
        kept: Tensor = checkpoint(part, x, **options)
        return kept

    def attention_modules(self) -> dict[int, MultiScaleAttention]:
        """Return the attention modules by stage."""
        return {int(stage): cast(MultiScaleAttention, module) for stage, module in self.msa.items()}

    def published_weights(self, name: str) -> dict[str, Tensor]:
        """Return torchvision's weights: ``imagenet`` (IMAGENET1K_V1) or a name of its enum."""
        wanted = "IMAGENET1K_V1" if name == "imagenet" else name
        if wanted not in self.published.__members__:
            names = ", ".join(self.published.__members__)
            raise CheckpointError(f"torchvision has no weights {name} for this trunk, only {names}")
        enum = self.published[wanted]
        try:
            return self.library_weights(enum.get_state_dict(progress=True, check_hash=True))
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash does not match
            file = Path(enum.url).name
            raise CheckpointError(
                f"the ImageNet weights could not be downloaded ({error}). Fetch {enum.url} where there is a "
                f"network and pass the file, `--model.weights /path/to/{file}`, or train from scratch with "
                "`--model.weights null`."
            ) from error

    def library_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict of torchvision, which has a classifier and, if old, no batch counters."""
        kept = {
            key: value
            for key, value in self.state_dict().items()
            if key.startswith("msa.") or key.endswith(".num_batches_tracked")
        }
        return kept | {key: value for key, value in state.items() if not key.startswith("fc.")}


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


def _dilate_blocks(blocks: Sequence[nn.Module], rates: tuple[int, ...]) -> None:
    """Alternate the rates over residual blocks, in their 3x3 convolutions of stride 1."""
    if len(blocks) < len(rates):
        raise ValueError(
            f"{len(rates)} rates {list(rates)} cannot alternate over a stage of {len(blocks)} blocks: "
            "skipping rates could leave holes"
        )
    for rate, block in zip(cycle(rates), blocks, strict=False):
        for conv in block.children():
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.stride == (1, 1):
                conv.dilation = conv.padding = (rate, rate)
