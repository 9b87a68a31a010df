"""Simulated tables of predictions for tests that need no network."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from mtmsa_lightning.labels import AGE_GROUP_EDGES, AGE_GROUPS
from mtmsa_lightning.models.distributions import GaussianAge
from mtmsa_lightning.reports.plots import style

RACES = ("white", "black", "asian")


def simulate(faces: int = 300, seed: int = 0, groups: bool = False, race: bool = True) -> pd.DataFrame:
    """Return predictions of ``faces`` faces, three per subject; the last tenth has no labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 90, faces)
    std = 2 + 0.1 * true
    mean = 35 + 0.8 * (true - 35) + rng.normal(0, std)
    low = high = true.astype(float)
    if groups:
        chosen = np.searchsorted(AGE_GROUP_EDGES, true)
        low, high = np.array(AGE_GROUPS, float)[chosen].T
    unlabelled = np.arange(faces) >= faces - faces // 10
    table = pd.DataFrame({"id": [f"set/{number:04d}.jpg" for number in range(faces)]})
    table["file"] = table["id"]
    table["subject"] = [f"set/{number // 3}" for number in range(faces)]
    table["label_age_low"] = np.where(unlabelled, np.nan, low)
    table["label_age_high"] = np.where(unlabelled, np.nan, high)
    tasks = {"gender": ("male", "female")} | ({"race": RACES} if race else {})
    truth = {task: rng.integers(0, len(names), faces) for task, names in tasks.items()}
    for task in ("gender", "race"):
        named = np.array(tasks[task])[truth[task]] if task in tasks else ""
        table[f"label_{task}"] = np.where(unlabelled, "", named)
    age = GaussianAge(torch.tensor(mean), torch.tensor(std))
    low90, high90 = age.interval(0.9)
    table = table.assign(age_mean=mean, age_std=std, age_low90=low90.numpy(), age_high90=high90.numpy())
    if groups:
        for (first, last), probs in zip(AGE_GROUPS, age.group_probs(AGE_GROUP_EDGES).T, strict=True):
            table[f"group_{first}_{last}"] = probs.numpy()
    for task, names in tasks.items():
        logits = rng.normal(0, 1, (faces, len(names))) + 2 * (truth[task][:, None] == np.arange(len(names)))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table[[f"{task}_{name}" for name in names]] = probs
    return table


@pytest.fixture(scope="session")
def simulated() -> Callable[..., pd.DataFrame]:
    return simulate


def undraw(patch: pytest.MonkeyPatch, *but: str) -> None:
    """Save empty figures, which is fast, but for those with these names."""
    draw = style.save

    def save(figure, folder, name, title, more=()):
        if name in but:
            return draw(figure, folder, name, title, more)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.svg").write_text("<svg/>")
        return folder / f"{name}.svg"

    patch.setattr(style, "save", save)


@pytest.fixture
def undrawn(monkeypatch):
    """Save empty figures."""
    undraw(monkeypatch)


@pytest.fixture
def only_faces_drawn(monkeypatch):
    """Save empty figures, but for those of faces."""
    undraw(monkeypatch, "attention_maps")
