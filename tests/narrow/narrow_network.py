"""Build MSAResNet with an eighth of its channels and one block a stage: all of its parts in little time.

Where dilation rates alternate over the blocks, it has all of them.

Importing this module is enough, before or after the package. ``sitecustomize.py`` beside it does so in every
process that a test starts.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NETWORK = "mtmsa_lightning.models.backbones.resnet"
WIDTHS = (8, 16, 32, 64)
"""Channels of the four stages; the network has (64, 128, 256, 512)."""


def narrow(module: ModuleType) -> None:
    """Give ``MSAResNet`` a base class that builds narrow stages."""
    from torch import nn
    from torchvision.models.resnet import ResNet

    build, in_blocks = module.MSAResNet.__init__, False

    @wraps(build)
    def remember_placement(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        nonlocal in_blocks
        msa = kwargs.get("msa", args[0] if args else None)
        in_blocks = msa is not None and msa.placement == "in_blocks"
        build(self, *args, **kwargs)

    class NarrowResNet(ResNet):  # type: ignore[misc]
        def __init__(self, block: type[nn.Module], layers: list[int]) -> None:
            nn.Module.__init__(self)
            self._norm_layer = nn.BatchNorm2d
            self.groups, self.base_width, self.dilation, self.inplanes = 1, 64, 1, WIDTHS[0]
            self.conv1 = nn.Conv2d(3, WIDTHS[0], kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(WIDTHS[0])
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            for stage, (width, depth) in enumerate(zip(WIDTHS, layers, strict=True), 1):
                depth = depth if in_blocks else 1
                setattr(self, f"layer{stage}", self._make_layer(block, width, depth, 1 if stage == 1 else 2))
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Identity()
            for part in self.modules():
                if isinstance(part, nn.Conv2d):
                    nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            nn.init.normal_(self.conv1.weight, std=(2 / (64 * 7 * 7)) ** 0.5)  # the features' scale stays

    module.MSAResNet.__init__ = remember_placement
    module.MSAResNet.__bases__ = (module.Trunk, NarrowResNet)
    module.WIDTHS = WIDTHS


@contextmanager
def full_width() -> Iterator[None]:
    """Build the network as published."""
    from torchvision.models.resnet import ResNet

    module = sys.modules[NETWORK]
    network = module.MSAResNet  # type: ignore[attr-defined]
    narrowed = network.__bases__
    network.__bases__, module.WIDTHS = (module.Trunk, ResNet), (64, 128, 256, 512)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        network.__bases__, module.WIDTHS = narrowed, WIDTHS  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    """Narrows the network after its module is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NETWORK:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_narrow(module: ModuleType) -> None:
            load(module)
            narrow(module)

        spec.loader.exec_module = load_narrow  # type: ignore[method-assign]
        return spec


if NETWORK in sys.modules:
    narrow(sys.modules[NETWORK])
else:
    sys.meta_path.insert(0, _Finder())
