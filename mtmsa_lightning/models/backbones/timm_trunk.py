"""Networks of timm as trunks with multi-scale attention."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.models.backbones.msa import MSAConfig, MultiScaleAttention
from mtmsa_lightning.models.backbones.trunk import Trunk, check_image_size
from mtmsa_lightning.settings.defaults import IMAGE_SIZE

STAGES = (-4, -3, -2, -1)
"""The feature maps of a network that are its four stages: the last ones."""


class AttendedStage(nn.Module):
    """A stage of a network, followed by multi-scale attention."""

    def __init__(self, stage: nn.Module, attention: MultiScaleAttention) -> None:
        super().__init__()
        self.stage, self.attention = stage, attention

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map of the stage."""
        gated: Tensor = self.attention(self.stage(x))
        return gated


class TimmTrunk(Trunk):
    """A network of timm (Wightman, "PyTorch Image Models", 2019) without its classifier.

    Its last four feature maps (``features_only``) are the stages: any convolutional network that has them.

    Args:
        name: timm's name, with or without a tag of weights: ``mobilenetv3_small_100.lamb_in1k``.
        msa: Attention; None gives the network as it is.
        image_size: Side of the input in pixels, to which missing rates and stages of ``msa`` are fitted.
        checkpoint_activations: Recompute activations in the backward pass, where the network can.

    Raises:
        ConfigError: timm is not installed or has no network of this name, the network has no such maps, or
            the attention is to be placed in its blocks.
    """

    def __init__(
        self,
        name: str,
        msa: MSAConfig | None = None,
        image_size: int = IMAGE_SIZE,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.body = _features(name)
        info = self.body.feature_info
        self.stage_channels, self.stage_strides = tuple(info.channels()), tuple(info.reduction())
        # timm joins the names of unpacked sequences by underscores
        flat = isinstance(self.body, nn.ModuleDict)
        names = [each.replace(".", "_") if flat else each for each in info.module_name()]
        self.stage_modules = tuple(f"body.{each}" for each in names)
        if checkpoint_activations:
            self.body.set_grad_checkpointing(True)
        if msa is not None:
            self._add_attention(msa.fitted(image_size, self.stage_strides))

    def _add_attention(self, msa: MSAConfig) -> None:
        if msa.placement == "in_blocks":
            raise ConfigError(
                "model.msa.placement in_blocks dilates the blocks of torchvision's ResNets, not of "
                f"timm/{self.name}: use after_stage"
            )
        for stage in msa.stages or ():
            parent, _, last = self.stage_modules[stage - 1].rpartition(".")
            channels = self.stage_channels[stage - 1]
            attention = MultiScaleAttention(channels, msa.rates or (), msa.reduction, msa.allow_gridding)
            siblings = self.get_submodule(parent)
            siblings._modules[last] = AttendedStage(cast(nn.Module, siblings._modules[last]), attention)

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """Return the last four feature maps, ``(N, stage_channels[i], H_i, W_i)``."""
        check_image_size(x)
        return list(self.body(x))

    def attention_modules(self) -> dict[int, MultiScaleAttention]:
        """Return the attention modules by stage."""
        ends = {stage: self.get_submodule(name) for stage, name in enumerate(self.stage_modules, 1)}
        return {stage: end.attention for stage, end in ends.items() if isinstance(end, AttendedStage)}

    def published_weights(self, name: str) -> dict[str, Tensor]:
        """Return timm's weights of the tag in the network's name, or its default ones (``imagenet``)."""
        if name != "imagenet":
            raise CheckpointError(
                f"timm's weights are chosen by the name of the network, e.g. timm/{self.name}.TAG, and "
                f"model.weights imagenet, not {name}"
            )
        try:
            return self._with_attention(_features(self.name, pretrained=True))
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the weights of timm/{self.name} could not be downloaded ({error}): fetch them where there "
                "is a network and pass the file, `--model.weights FILE`, or train from scratch with "
                "`--model.weights null`"
            ) from error

    def library_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict of the whole network in timm's layout."""
        import timm

        whole = timm.create_model(self.name, num_classes=0)
        absent = whole.state_dict().keys() - state.keys()
        absent = {key for key in absent if not key.endswith("num_batches_tracked")}
        if absent:
            raise CheckpointError(
                f"no weights of timm/{self.name}: {len(absent)} keys are missing, e.g. {min(absent)}"
            )
        overlay = {"state_dict": dict(state)}
        return self._with_attention(_features(self.name, pretrained=True, pretrained_cfg_overlay=overlay))

    def _with_attention(self, body: nn.Module) -> dict[str, Tensor]:
        """Return the state of this trunk with the weights of another body, which has no attention."""
        found = {f"body.{key}": value for key, value in body.state_dict().items()}
        own = self.state_dict()
        return {key: found.get(key.replace(".stage.", ".", 1), value) for key, value in own.items()}


def _features(name: str, **options: Any) -> Any:
    """Build a network that returns its last four feature maps."""
    try:
        import timm
        from timm.models import EfficientNetFeatures, FeatureListNet, MobileNetV3Features
    except ImportError as error:
        raise ConfigError(
            f"model.backbone timm/{name} needs timm: pip install 'mtmsa-lightning[timm]'"
        ) from error
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0]}*")[:5])
        raise ConfigError(
            f"model.backbone timm/{name}: timm has no such network" + (f", but {near}" if near else "")
        )
    try:
        body = timm.create_model(name, features_only=True, out_indices=STAGES, **options)
    except (AssertionError, IndexError, AttributeError, RuntimeError) as error:
        raise ConfigError(f"model.backbone timm/{name} has no maps of four stages: {error}") from error
    maps = str(getattr(body, "output_fmt", None) or "NCHW").endswith("NCHW")
    if not maps or not isinstance(body, FeatureListNet | EfficientNetFeatures | MobileNetV3Features):
        raise ConfigError(
            f"model.backbone timm/{name} is not a convolutional network of four stages: choose another"
        )
    return body
