"""Building of a trunk by the name of its backbone."""

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.models.backbones.msa import MSAConfig
from mtmsa_lightning.models.backbones.resnet import RESNETS, MSAResNet
from mtmsa_lightning.models.backbones.trunk import LAST_STRIDE, Trunk
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
        backbone: ``resnet18``, ``resnet34``, ``resnet50`` (torchvision), or ``timm/NAME``.
        msa: Attention; None for none.
        image_size: Side of the input in pixels, to which missing rates and stages of ``msa`` are fitted.
        last_stride: Stride of the last stage of a ResNet, 1 or 2.
        stem_pool: Whether the stem of a ResNet has its max-pool.
        checkpoint_activations: Whether activations are recomputed in the backward pass.

    Raises:
        ConfigError: There is no such backbone, or it has no such setting.
    """
    if backbone in RESNETS:
        return MSAResNet(msa, backbone, image_size, last_stride, stem_pool, checkpoint_activations)
    if not backbone.startswith(TIMM):
        names = ", ".join(RESNETS)
        raise ConfigError(
            f"model.backbone {backbone} is not one of {names}, nor a network of timm, timm/NAME"
        )
    if last_stride != LAST_STRIDE or not stem_pool:
        raise ConfigError(f"model.last_stride and model.stem_pool belong to ResNets, not to {backbone}")
    # Importing timm takes seconds.
    from mtmsa_lightning.models.backbones.timm_trunk import TimmTrunk

    return TimmTrunk(backbone.removeprefix(TIMM), msa, image_size, checkpoint_activations)
