"""Synthetic tables of predictions, for tests without a model."""

import numpy as np
import pandas as pd

from mtmsa_lightning.labels import AGE_GROUPS


def table_of(n: int = 400, seed: int = 0, groups: bool = False) -> pd.DataFrame:
    """Return predictions with correct spread, about three per subject; some lack a gender."""
    random = np.random.default_rng(seed)
    age = random.integers(16, 60, n).astype(float)
    std = random.uniform(2, 9, n)
    probs = {task: random.dirichlet(np.ones(k), n) for task, k in (("gender", 2), ("race", 3))}
    table = pd.DataFrame(
        {
            "id": [f"synthetic/{row}.jpg" for row in range(n)],
            "file": [f"{row}.jpg" for row in range(n)],
            "subject": [f"{number:03d}" for number in random.integers(0, n // 3, n)],
            "label_age_low": age,
            "label_age_high": age,
            "label_gender": random.choice(["male", "female", ""], n, p=[0.7, 0.25, 0.05]),
            "label_race": random.choice(["white", "black", "asian"], n, p=[0.5, 0.47, 0.03]),
            "age_mean": age + random.normal(0, std),
            "age_std": std,
            "gender_male": probs["gender"][:, 0],
            "gender_female": probs["gender"][:, 1],
            **{f"race_{name}": probs["race"][:, i] for i, name in enumerate(("white", "black", "asian"))},
        }
    )
    if groups:
        table = table.drop(columns=["label_race", "race_white", "race_black", "race_asian"])
        low, high = np.array([[15, 20], [25, 32], [38, 43], [48, 53]]).T
        group = random.integers(0, 4, n)
        probs = {f"group_{first}_{last}": 1 / 8 for first, last in AGE_GROUPS}
        table = table.assign(label_age_low=low[group], label_age_high=high[group], **probs)
    return table
