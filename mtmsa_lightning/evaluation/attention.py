"""Gates and scale weights of the attention modules on the faces of a test part."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mtmsa_lightning.data.face_dataset import FaceDataset, collate
from mtmsa_lightning.models.backbones.msa import MSAAttention
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.settings.defaults import MIN_FACES, PREDICT_BATCH_SIZE

SHOWN = 8
"""Number of faces whose gates are shown."""

PER_DECADE = 200
"""Maximum number of faces per age decade for the mean weights."""


class Attention(NamedTuple):
    """Gates and scale weights of the attention modules.

    Attributes:
        ids: Ids of the F faces that are shown, in order of age.
        ages: Their labels in years (midpoints of groups).
        faces: The faces as the network sees them, RGB, ``(height, width, 3)`` each.
        maps: Gates averaged over channels, ``(F, h, w)``, by stage; above 0 amplifies, below 0 damps.
        weights: Columns ``stage, rate, decade, weight, faces``: mean weight of the scale that ends with the
            convolution of that dilation rate, over channels and faces of the age decade (its first year). NaN
            for a decade with too few faces.
    """

    ids: tuple[str, ...]
    ages: tuple[float, ...]
    faces: tuple[NDArray[np.uint8], ...]
    maps: dict[int, NDArray[np.float32]]
    weights: pd.DataFrame


@torch.inference_mode()
def attend(
    model: MTMSA,
    data: FaceDataset,
    device: torch.device | str = "cpu",
    batch_size: int = PREDICT_BATCH_SIZE,
    min_faces: int = MIN_FACES,
) -> Attention | None:
    """Compute gates and scale weights of the attention modules; None without modules or without ages.

    Faces without an age are skipped; a decade with fewer than ``min_faces`` faces has no mean weight.
    """
    ages = ((data.table["age_low"] + data.table["age_high"]) / 2).to_numpy(np.float64)
    if not model.trunk.attention_modules() or np.isnan(ages).all():
        return None
    model = model.to(device).eval()
    shown = spread_over_ages(ages, SHOWN)
    faces, ids, rows, maps = [], [], [], []
    for batch, attended in _attended(model, data, shown, batch_size):
        faces += [image.permute(1, 2, 0).numpy() for image in batch["image"]]
        ids += batch["id"]
        rows += batch["index"].tolist()
        maps.append({stage: each.spatial_map.float().cpu().numpy() for stage, each in attended.items()})
    return Attention(
        ids=tuple(ids),
        ages=tuple(float(ages[row]) for row in rows),
        faces=tuple(faces),
        maps={stage: np.concatenate([part[stage] for part in maps]) for stage in maps[0]},
        weights=_mean_weights(model, data, ages, batch_size, min_faces),
    )


def _mean_weights(
    model: MTMSA, data: FaceDataset, ages: NDArray[np.float64], batch_size: int, min_faces: int
) -> pd.DataFrame:
    rows = up_to_each_decade(ages, PER_DECADE)
    parts = []
    for batch, attended in _attended(model, data, rows, batch_size):
        decades = 10 * np.floor(ages[batch["index"].numpy()] / 10).astype(int)
        for stage, each in attended.items():
            fractions = each.scale_weights.double().mean(dim=2).cpu().numpy()
            wide = pd.DataFrame(fractions, columns=dilation_rates(model, stage)).assign(decade=decades)
            parts.append(
                wide.melt("decade", var_name="rate", value_name="weight")
                .assign(stage=stage)
                .astype({"rate": int})
            )
    groups = pd.concat(parts).groupby(["stage", "rate", "decade"])["weight"]
    means = groups.agg(weight="mean", faces="size").reset_index()
    return means.assign(weight=means["weight"].where(means["faces"] >= min_faces))


def _attended(
    model: MTMSA, data: FaceDataset, rows: Sequence[int], batch_size: int
) -> Iterator[tuple[Any, dict[int, MSAAttention]]]:
    """Yield batches of readable faces with the attention of each stage."""
    for start in range(0, len(rows), batch_size):
        samples = [data[row] for row in rows[start : start + batch_size]]
        samples = [sample for sample in samples if sample["valid"]]
        if samples:
            batch = collate(samples)
            yield batch, model.trunk.attention(model.normalise(batch["image"].to(model.device)))


def dilation_rates(model: MTMSA, stage: int) -> list[int]:
    """Return the dilation rates of a stage's attention module, in the order of its scales."""
    module = model.trunk.attention_modules()[stage]
    return [int(scale[0].dilation[0]) for scale in module.scales]  # type: ignore[index]


def spread_over_ages(ages: NDArray[np.float64], count: int) -> list[int]:
    """Return at most ``count`` rows with ages evenly between the 5th and 95th percentile, in order of age."""
    known = np.flatnonzero(~np.isnan(ages))
    chosen: list[int] = []
    young, old = np.percentile(ages[known], [5, 95])
    for wanted in np.linspace(young, old, min(count, len(known))):
        free = np.setdiff1d(known, chosen)
        chosen.append(int(free[np.abs(ages[free] - wanted).argmin()]))
    return sorted(chosen, key=lambda row: float(ages[row]))


def up_to_each_decade(ages: NDArray[np.float64], most: int) -> list[int]:
    """Return at most ``most`` rows of each age decade, drawn with a fixed seed."""
    known = np.flatnonzero(~np.isnan(ages))
    order = pd.Series(np.random.default_rng(0).permutation(known))
    chosen = order.groupby(np.floor(ages[order] / 10)).head(most)
    return sorted(int(row) for row in chosen)
