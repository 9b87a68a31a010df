"""Measure and plot the effective receptive field of backbones with and without multi-scale attention.

Luo, Li, Urtasun, Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
NeurIPS 2016: the gradient of the middle cell of a map with respect to the input, its absolute value averaged
over random inputs and channels. Two values per map: the side of the smallest central square that holds 90 %
of the total, and the diameter of the circle with the area of all pixels above 4.55 % of the maximum (two
standard deviations of a Gaussian).

The gate of an attention module is initialised to zero, so that a new backbone equals the plain one. Random
gates (`--gate`: standard deviation of the last layer's weights) or trained checkpoints are measured instead.

    python benchmarks/receptive_field.py
    python benchmarks/receptive_field.py --checkpoint runs/a/.../best.ckpt --against runs/b/.../best.ckpt
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mtmsa_lightning import MTMSA, MSAConfig, MSAResNet

RATES = ((1, 1, 1), (1, 2, 3), (1, 2, 5))
STAGES = (2, 3, 4)
LEVEL = 0.0455


def receptive_field(backbone: MSAResNet, stage: int, size: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the mean absolute gradient of the middle cell of a stage's map, ``(size, size)``."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(size, size, dtype=torch.float64)
    for _ in range(draws):
        image = torch.randn(1, 3, size, size, generator=generator).requires_grad_()
        cells = backbone.stage_maps(image)[stage - 1]
        middle = cells[0, :, cells.shape[2] // 2, cells.shape[3] // 2]
        signs = torch.randn(len(middle), generator=generator)
        (gradient,) = torch.autograd.grad((middle * signs).sum(), image)
        total += gradient[0].abs().sum(0).double()
    return (total / draws).numpy()


def side_of_mass(field: NDArray[np.float64], share: float = 0.9) -> int:
    """Return the side of the smallest square around the centre of mass that holds a fraction of the total."""
    rows, columns = np.indices(field.shape)
    middle = [round(float((axis * field).sum() / field.sum())) for axis in (rows, columns)]
    distance = np.maximum(abs(rows - middle[0]), abs(columns - middle[1]))
    mass = np.bincount(distance.ravel(), field.ravel()).cumsum()
    return 2 * int(np.searchsorted(mass, share * mass[-1])) + 1


def diameter_above(field: NDArray[np.float64], level: float = LEVEL) -> float:
    """Return the diameter of a circle with the area of all pixels above a fraction of the maximum."""
    return float(2 * np.sqrt((field > level * field.max()).sum() / np.pi))


def new_backbone(msa: MSAConfig | None, gate: float, seed: int) -> MSAResNet:
    """Return a random backbone; the ResNet's weights are the same with and without attention."""
    torch.manual_seed(seed)
    backbone = MSAResNet(msa)
    torch.manual_seed(seed)
    backbone.load_state_dict(MSAResNet(None).state_dict(), strict=False)
    for module in backbone.msa.values():
        nn.init.normal_(module.expand.weight, std=gate)  # type: ignore[union-attr, arg-type]
    return backbone.eval()


def backbones(options: argparse.Namespace) -> dict[str, MSAResNet]:
    """Return the backbones to measure, by name."""
    if options.checkpoint:
        files = [options.checkpoint, *options.against]
        trunks = {"/".join(file.absolute().parts[-5:-3]): MTMSA.load(str(file)).trunk for file in files}
        return {name: trunk for name, trunk in trunks.items() if isinstance(trunk, MSAResNet)}
    found = {"plain": new_backbone(None, options.gate, options.seed)}
    for rates in RATES:
        name = f"attention {','.join(map(str, rates))}"
        found[name] = new_backbone(MSAConfig(rates=rates), options.gate, options.seed)
    blocks = MSAConfig(placement="in_blocks")
    return found | {"rates 1,2,5 in blocks": new_backbone(blocks, options.gate, options.seed)}


def draw(fields: dict[tuple[str, int], NDArray[np.float64]], file: Path) -> None:
    """Plot all fields on a logarithmic scale, one row per backbone and one column per stage."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    names, stages = (list(dict.fromkeys(key[part] for key in fields)) for part in (0, 1))
    figure = Figure(figsize=(2.2 * len(stages), 2.3 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(stages), squeeze=False)
    for (name, stage), field in fields.items():
        axis = axes[names.index(name)][stages.index(stage)]
        axis.imshow(field[::2, ::2] / field.max(), cmap="cividis", norm=LogNorm(1e-4, 1, clip=True))
        axis.set_title(f"{name}\nstage {stage}: {side_of_mass(field)} px", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(file, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--draws", type=int, default=20, help="random inputs")
    parser.add_argument("--gate", type=float, default=0.1, help="standard deviation of random gate weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="a trained model, .../<run>/checkpoints/best.ckpt")
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="further ones")
    parser.add_argument("--out", type=Path, help="plot to write, .png or .svg")
    options = parser.parse_args()
    fields = {}
    print("| backbone | stage | side of 90 % (px) | diameter above 4.55 % (px) |\n| --- | --- | --- | --- |")
    for name, backbone in backbones(options).items():
        for stage in STAGES:
            field = receptive_field(backbone, stage, options.size, options.draws, options.seed)
            fields[name, stage] = field
            print(f"| {name} | {stage} | {side_of_mass(field)} | {diameter_above(field):.0f} |", flush=True)
    if options.out:
        draw(fields, options.out)


if __name__ == "__main__":
    main()
