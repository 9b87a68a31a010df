"""Building of a trunk by the name of its backbone."""

from collections.abc import Callable

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.models.backbones.msa import MSAConfig
from mtmsa_lightning.models.backbones.resnet import RESNETS, MSAResNet
from mtmsa_lightning.models.backbones.trunk import LAST_STRIDE, Trunk
from mtmsa_lightning.settings.class_paths import find_class
from mtmsa_lightning.settings.defaults import IMAGE_SIZE

TIMM = "timm/"
"""Prefix of the names of timm's networks."""


def build_trunk(
    backbone: str = "resnet34",
    msa: MSAConfig | None = None,
    image_size: int = IMAGE_SIZE,
    last_stride: int = LAST_STRIDE,
    stem_pool: bool = True,
    checkpoint_activations: bool = False,
) -> Trunk:
    """Build a trunk with random weights.

    Args:
        backbone: ``resnet18``, ``resnet34``, ``resnet50`` (torchvision), ``timm/NAME``, or the dotted name of
            a subclass of :class:`.Trunk` that takes ``msa`` and ``image_size``.
        msa: Attention; None for none.
        image_size: Side of the input in pixels, to which missing rates and stages of ``msa`` are fitted.
        last_stride: Stride of the last stage of a ResNet, 1 or 2.
        stem_pool: Whether the stem of a ResNet has its max-pool.
        checkpoint_activations: Whether activations are recomputed in the backward pass.

    Raises:
        ConfigError: There is no such backbone, or it has no such setting.
        CheckpointError: The class is the user's and neither imported nor allowed, see :func:`.find_class`.
    """
    if backbone in RESNETS:
        return MSAResNet(msa, backbone, image_size, last_stride, stem_pool, checkpoint_activations)
    own = "." in backbone and not backbone.startswith(TIMM)
    if not own and not backbone.startswith(TIMM):
        names = ", ".join(RESNETS)
        raise ConfigError(
            f"model.backbone {backbone} is not one of {names}, nor a network of timm, timm/NAME, nor a class "
            "of yours, module.Class"
        )
    if last_stride != LAST_STRIDE or not stem_pool:
        raise ConfigError(f"model.last_stride and model.stem_pool belong to ResNets, not to {backbone}")
    if own:
        if checkpoint_activations:
            raise ConfigError(f"model.checkpoint_activations belongs to ResNets and timm, not to {backbone}")
        build: Callable[..., Trunk] = find_class(backbone, Trunk)
        return build(msa=msa, image_size=image_size)
    # Importing timm takes seconds.
    from mtmsa_lightning.models.backbones.timm_trunk import TimmTrunk

    return TimmTrunk(backbone.removeprefix(TIMM), msa, image_size, checkpoint_activations)
