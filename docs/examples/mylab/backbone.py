"""A backbone: a small convolutional network with multi-scale attention."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtmsa_lightning import MSAConfig, MultiScaleAttention, Trunk
from mtmsa_lightning.errors import CheckpointError


class SmallTrunk(Trunk):
    """Four stages of one convolution each, which halve the width of the map.

    Args:
        msa: Attention after the stages that it names; None for none.
        image_size: Side of the input in pixels, to which missing rates and stages of ``msa`` are fitted.
    """

    stage_channels = (16, 32, 64, 128)
    stage_strides = (4, 8, 16, 32)

    def __init__(self, msa: MSAConfig | None = None, image_size: int = 224) -> None:
        super().__init__()
        self.stem = _halving(3, 8)
        widths = (8, *self.stage_channels)
        for number, (before, after) in enumerate(zip(widths, self.stage_channels, strict=False), 1):
            self.add_module(f"layer{number}", _halving(before, after))  # the names of stage_modules
        self.attentions = nn.ModuleDict()
        if msa is not None:
            msa = msa.fitted(image_size, self.stage_strides)
            for stage in msa.stages:
                channels = self.stage_channels[stage - 1]
                self.attentions[str(stage)] = MultiScaleAttention(channels, msa.rates, msa.reduction)

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """Return the maps after the four stages."""
        x, maps = self.stem(x), []
        for stage, name in zip("1234", self.stage_modules, strict=True):
            x = getattr(self, name)(x)
            x = self.attentions[stage](x) if stage in self.attentions else x
            maps.append(x)
        return maps

    def attention_modules(self) -> dict[int, MultiScaleAttention]:
        """Return the attention modules by stage."""
        return {int(stage): each for stage, each in self.attentions.items()}

    def published_weights(self, name: str) -> dict[str, Tensor]:
        """Nobody has published any."""
        raise CheckpointError(f"SmallTrunk has no weights {name}: train from scratch, --model.weights null")

    def library_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take weights in this trunk's own layout."""
        return dict(state)


def _halving(before: int, after: int) -> nn.Sequential:
    """Return a convolution with stride 2, normalisation and ReLU."""
    conv = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))
