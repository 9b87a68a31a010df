"""The interface of the trunks: feature maps of four stages, with multi-scale attention after some of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from mtmsa_lightning.models.backbones.msa import MSAAttention, MultiScaleAttention

LAST_STRIDE = 2
"""Stride of the last stage, as published."""

MIN_IMAGE_SIZE = 64
"""Smallest side of an input in pixels: there the last map is 2 cells wide."""


class Trunk(nn.Module, ABC):
    """A network from normalised images to feature maps of four stages, shared by all heads.

    Parameters outside the attention modules are those of a published network (``pretrained``).

    Attributes:
        stage_channels: Channels of the maps after the four stages.
        stage_strides: Pixels per cell of these maps.
        stage_modules: Names of the submodules that end the four stages.

    Shape:
        Input ``(N, 3, H, W)`` with sides of at least 64 px, output ``(N, stage_channels[3])``.
    """

    stage_channels: tuple[int, ...]
    stage_strides: tuple[int, ...]
    stage_modules: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")

    @abstractmethod
    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """Return the output maps of the four stages, ``(N, stage_channels[i], H_i, W_i)``."""

    @abstractmethod
    def attention_modules(self) -> dict[int, MultiScaleAttention]:
        """Return the attention modules by stage."""

    @abstractmethod
    def published_weights(self, name: str) -> dict[str, Tensor]:
        """Return the weights that the library publishes under a name, as a state dict of this trunk.

        ``imagenet`` is the library's default. They are downloaded unless they are cached.

        Raises:
            CheckpointError: The library has none of this name, or they cannot be downloaded.
        """

    @abstractmethod
    def library_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict in the library's layout; attention and missing counters keep their own."""

    def forward(self, x: Tensor, aux_stage: int | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the pooled features, ``(N, stage_channels[3])``, of normalised images.

        With ``aux_stage`` the pooled map of that stage, ``(N, stage_channels[aux_stage - 1])``, is returned
        too.
        """
        maps = self.stage_maps(x)
        features = maps[-1].mean((2, 3))
        if aux_stage is None:
            return features
        return features, features if aux_stage == 4 else maps[aux_stage - 1].mean((2, 3))

    def attention(self, x: Tensor) -> dict[int, MSAAttention]:
        """Return the attention by stage; empty without attention modules."""
        seen: dict[int, Tensor] = {}

        def keep(stage: int) -> object:
            return lambda module, inputs: seen.update({stage: inputs[0]})

        modules = self.attention_modules()
        handles = [each.register_forward_pre_hook(keep(stage)) for stage, each in modules.items()]  # type: ignore[arg-type]
        try:
            self.stage_maps(x)
        finally:
            for handle in handles:
                handle.remove()
        return {stage: each.attend(seen[stage])[1] for stage, each in modules.items()}

    def pretrained_parameters(self) -> Iterator[tuple[str, nn.Parameter, int]]:
        """Yield name, parameter and stage (0 for the stem) of all parameters outside the attention."""
        attention = {id(p) for each in self.attention_modules().values() for p in each.parameters()}
        stage, left = 0, False
        for name, parameter in self.named_parameters():
            ending = [
                end for end, module in enumerate(self.stage_modules, 1) if f"{name}.".startswith(f"{module}.")
            ]
            if ending:
                stage, left = ending[0], False
            elif stage and not left:
                stage, left = min(stage + 1, len(self.stage_modules)), True
            if id(parameter) not in attention:
                yield name, parameter, stage

    def train_pretrained(self, mode: bool) -> None:
        """Set the training mode of all layers outside the attention, e.g. to keep BatchNorm statistics."""
        attention = self.attention_modules()
        modes = {stage: each.training for stage, each in attention.items()}
        for child in self.children():  # the trunk itself keeps its mode
            child.train(mode)
        for stage, each in attention.items():
            each.train(modes[stage])


def check_image_size(x: Tensor) -> None:
    """Raise ValueError for images below :data:`MIN_IMAGE_SIZE`."""
    if min(x.shape[-2:]) < MIN_IMAGE_SIZE:
        raise ValueError(f"images need {MIN_IMAGE_SIZE} px a side, got {tuple(x.shape[-2:])}")
