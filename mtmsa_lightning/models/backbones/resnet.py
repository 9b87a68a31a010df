"""ResNet-34 trunk with multi-scale attention, and the loading of its weights."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models import ResNet34_Weights
from torchvision.models.resnet import BasicBlock, ResNet

from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.models.backbones.msa import MSAAttention, MultiScaleAttention, check_rates

MIN_IMAGE_SIZE = 64
"""Smallest side of an input in pixels: there the last map is 2 cells wide."""

_BLOCKS = (3, 4, 6, 3)
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class MSAConfig:
    """Where and how multi-scale attention sits in the trunk.

    At 224 px the maps after stages 1 to 4 are 56, 28, 14 and 7 cells wide. At stages 2 and 3 a rate of 5
    stays under half the map; at stage 4 it reads mostly padding, and at stage 1 memory traffic dominates.

    Attributes:
        rates: Dilation rates of the chain of 3x3 convolutions; lists are taken too.
        stages: Stages of the ResNet, of 1 to 4, that get attention.
        reduction: Divisor of the channels inside the attention module.
        placement: ``after_stage`` puts one attention module behind each stage; ``in_blocks`` adds no module
            and lets the rates alternate over the residual blocks of the stages.
        allow_gridding: Accept rates that leave holes in the receptive field (for ablations).

    Raises:
        ValueError: If stages are unknown or repeated, the placement is unknown or the rates leave holes.
    """

    rates: tuple[int, ...] = (1, 2, 5)
    stages: tuple[int, ...] = (2, 3)
    reduction: int = 4
    placement: Literal["after_stage", "in_blocks"] = "after_stage"
    allow_gridding: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", tuple(self.rates))
        object.__setattr__(self, "stages", tuple(self.stages))
        check_rates(self.rates, self.allow_gridding)
        if (
            not self.stages
            or len(set(self.stages)) < len(self.stages)
            or not {1, 2, 3, 4}.issuperset(self.stages)
        ):
            raise ValueError(f"stages must be different ones of 1, 2, 3, 4, got {list(self.stages)}")
        if self.placement not in ("after_stage", "in_blocks"):
            raise ValueError(f"placement must be after_stage or in_blocks, got {self.placement!r}")


_DEFAULT_MSA = MSAConfig()


class MSAResNet34(ResNet):  # type: ignore[misc]
    """ResNet-34 without its classifier, with multi-scale attention in chosen stages.

    Every parameter outside ``msa`` keeps its torchvision name and shape, so ImageNet weights fit; with them
    the new trunk computes exactly what torchvision's does, because each attention module starts as the
    identity (with ``placement="in_blocks"`` the weights fit too, but the function changes).

    Args:
        msa: Attention; None gives the plain ResNet-34.
        last_stride: Stride of stage 4, 2 as published or 1 for a last map of twice the width.
        checkpoint_activations: Keep for the backward pass the inputs of stem, residual blocks and attention
            alone, and compute what lies inside them again (Chen et al., "Training Deep Nets with Sublinear
            Memory Cost", 2016): less memory for one more forward pass; results and gradients stay the same.

    Shape:
        Input ``(N, 3, H, W)`` with sides of 64 px and more, output ``(N, 512)``.

    Raises:
        ValueError: If ``last_stride`` is neither 1 nor 2, or a stage has fewer blocks than there are rates to
            alternate.
    """

    stage_channels = (64, 128, 256, 512)

    def __init__(
        self,
        msa: MSAConfig | None = _DEFAULT_MSA,
        last_stride: int = 2,
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
        if msa is not None:
            for stage in sorted(msa.stages):
                self._add_attention(stage, msa)

    def forward(self, x: Tensor, aux_stage: int | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the pooled features, ``(N, 512)``.

        Args:
            x: Normalised images.
            aux_stage: A stage, 1 to 4, whose pooled map, ``(N, stage_channels[aux_stage - 1])``, is returned
                beside them.
        """
        maps = self.stage_maps(x)
        features = maps[-1].mean((2, 3))
        if aux_stage is None:
            return features
        return features, features if aux_stage == 4 else maps[aux_stage - 1].mean((2, 3))

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """Return the four maps behind the stages, ``(N, stage_channels[i], H_i, W_i)``.

        Raises:
            ValueError: If a side of the images is below 64 px.
        """
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
        """Run a part of the network, whose BatchNorm layers are in ``module``."""
        if not (self.checkpoint_activations and self.training):
            return part(x)
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        if not torch.compiler.is_compiling():  # a compiler sees to it that a batch is counted once
            options["context_fn"] = partial(_recomputation, module)
        kept: Tensor = checkpoint(part, x, **options)
        return kept

    def attention(self, x: Tensor) -> dict[int, MSAAttention]:
        """Return what each attention module attends to, by stage; empty where there is none.

        Raises:
            ValueError: If a side of the images is below 64 px.
        """
        x = self._stem(x)
        attended = {}
        for stage, layer in self._stages():
            x = layer(x)
            if stage in self.msa:
                x, attended[int(stage)] = cast(MultiScaleAttention, self.msa[stage]).attend(x)
        return attended

    def resnet_modules(self) -> list[nn.Module]:
        """Return the parts that are torchvision's, without the attention modules."""
        return [module for name, module in self.named_children() if name != "msa"]

    def _stem(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < MIN_IMAGE_SIZE:
            raise ValueError(f"images need {MIN_IMAGE_SIZE} px a side, got {tuple(x.shape[-2:])}")
        return cast(Tensor, self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def _stages(self) -> Iterator[tuple[str, nn.Sequential]]:
        return zip("1234", (self.layer1, self.layer2, self.layer3, self.layer4), strict=True)

    def _add_attention(self, stage: int, msa: MSAConfig) -> None:
        if msa.placement == "in_blocks":
            _dilate_blocks(getattr(self, f"layer{stage}"), msa.rates)
            return
        self.msa[str(stage)] = MultiScaleAttention(
            self.stage_channels[stage - 1], msa.rates, msa.reduction, msa.allow_gridding
        )


def _recomputation(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts in which a part is computed for the first and for the second time."""
    return nullcontext(), _statistics_kept(module)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Normalise by the batch without counting it in the running statistics: it has been counted.

    The count goes to a copy, not to None, because SyncBatchNorm demands a counter.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, counter) in zip(norms, kept, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = None if counter is None else counter.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter


def _dilate_blocks(blocks: Sequence[BasicBlock], rates: tuple[int, ...]) -> None:
    """Let the rates alternate over residual blocks, in their 3x3 convolutions of stride 1."""
    if len(blocks) < len(rates):
        raise ValueError(
            f"{len(rates)} rates {list(rates)} cannot alternate over a stage of {len(blocks)} blocks: "
            "leaving rates out could leave holes"
        )
    for rate, block in zip(cycle(rates), blocks, strict=False):
        for conv in (block.conv1, block.conv2):
            if conv.stride == (1, 1):
                conv.dilation = conv.padding = (rate, rate)


def wide_rates(msa: MSAConfig | None, last_stride: int, image_size: int) -> list[str]:
    """Name the rates that reach half the map or more, where the outer taps read mostly padding.

    Returns:
        A sentence for each stage with such rates.
    """
    if msa is None:
        return []
    strides = {1: 4, 2: 8, 3: 16, 4: 16 * last_stride}
    said = []
    for stage in msa.stages:
        width = -(-image_size // strides[stage])  # every halving rounds up
        wide = [rate for rate in msa.rates if 2 * rate >= width]
        narrow = ",".join(str(rate) for rate in msa.rates if rate not in wide)
        if wide:
            said.append(
                f"at {image_size} px the map of stage {stage} is {width}x{width}: dilation rates {wide} span "
                "half of it or more and read mostly padding: harmless"
                + (f"; --model.msa.rates [{narrow}] avoids it" if narrow else "")
            )
    return said


def load_trunk_weights(trunk: MSAResNet34, weights: str | os.PathLike[str] | None) -> None:
    """Fill a trunk with weights: all of them, or none when something does not fit.

    Args:
        trunk: Trunk to fill, in place.
        weights: None keeps the random initialisation. ``"imagenet"`` takes torchvision's
            ``ResNet34_Weights.IMAGENET1K_V1``. Anything else is the path of a file, of safetensors or of
            ``torch.save``: a state dict in torchvision's layout (its classifier is dropped, attention keeps
            its initialisation), or a state dict of a trunk or of a whole network of ours.

    Raises:
        CheckpointError: If the download fails, the file cannot be read, or any key or shape does not fit.
    """
    if weights is None:
        return
    if weights == "imagenet":
        state, own, source = _download_imagenet(), False, "the ImageNet weights"
    else:
        state, own = _read_state(Path(weights))
        source = str(weights)
    if not own:
        expected = trunk.state_dict()
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
        # Attention is not in torchvision's files, and its older ones carry no batch counters.
        kept = {key for key in expected if key.startswith("msa.") or key.endswith(_COUNTER)}
        state = {key: expected[key] for key in kept} | state
    fill_trunk(trunk, state, source)


def fill_trunk(trunk: MSAResNet34, state: dict[str, Tensor], source: str) -> None:
    """Fill a trunk with all of its weights, or with none when something does not fit.

    Args:
        trunk: Trunk to fill, in place.
        state: Its state dict.
        source: Where it comes from, for the message.

    Raises:
        CheckpointError: If any key or shape does not fit.
    """
    problems = _mismatches(state, trunk.state_dict())
    if problems:
        raise CheckpointError(f"{source} does not fit this trunk:\n  " + "\n  ".join(problems))
    trunk.load_state_dict(state)


def _download_imagenet() -> dict[str, Tensor]:
    enum = ResNet34_Weights.IMAGENET1K_V1
    try:
        return cast(dict[str, Tensor], enum.get_state_dict(progress=True, check_hash=True))
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash does not fit
        name = Path(enum.url).name
        raise CheckpointError(
            f"the ImageNet weights could not be downloaded ({error}). Fetch {enum.url} where there is a "
            f"network and pass the file, `--model.weights /path/to/{name}`, or train from scratch with "
            "`--model.weights null`."
        ) from error


def _read_state(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Return the trunk's state dict in a file, and whether it is in our own layout."""
    if not path.is_file():
        raise CheckpointError(f"weight file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no file of weights: it is damaged, or holds objects of other programs, which are not "
            "loaded since they could run code: give a state dict of tensors"
        ) from error
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        raise CheckpointError(
            f"{path} is no file of weights: it is damaged or cut off: copy it again, or choose another"
        ) from error
    nested = isinstance(content, dict) and isinstance(content.get("state_dict"), dict)
    state = _checked_state(content["state_dict"] if nested else content, path, "no state dict")
    trunk = {key.removeprefix("trunk."): value for key, value in state.items() if key.startswith("trunk.")}
    if nested or trunk:
        return _checked_state(trunk, path, "a checkpoint without trunk.* weights"), True
    return state, any(key.startswith("msa.") for key in state)


def _checked_state(content: Any, path: Path, complaint: str) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content or not all(map(torch.is_tensor, content.values())):
        raise CheckpointError(f"{path} holds {complaint}")
    return content


def _mismatches(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """List every key that is missing, unexpected or of another shape."""
    missing = [f"missing: {key} {tuple(expected[key].shape)}" for key in expected.keys() - state.keys()]
    extra = [f"unexpected: {key} {tuple(state[key].shape)}" for key in state.keys() - expected.keys()]
    shapes = [
        f"shape of {key}: {tuple(state[key].shape)} in the file, {tuple(expected[key].shape)} in the trunk"
        for key in expected.keys() & state.keys()
        if state[key].shape != expected[key].shape
    ]
    return sorted(missing) + sorted(extra) + sorted(shapes)
