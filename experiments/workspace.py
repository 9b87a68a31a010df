"""Arrange the project's W&B workspace: `python experiments/workspace.py ENTITY [--project mtmsa-lightning]`.

Needs the extra `workspaces` and a key (`wandb login`). Each call creates a new saved view.
"""

import argparse

import wandb
import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as workspaces

LINES = {
    "Age": ("age_mae", "age_cs5", "age_bias", "age_nll", "age_coverage90", "group_acc", "group_acc_1off"),
    "Gender and race": ("gender_acc", "gender_balanced_acc", "race_acc", "race_balanced_acc"),
    "Losses": ("loss", "age_loss", "gender_loss", "race_loss"),
}
"""Metrics of training and validation, by section."""

TRAINING = (
    "train/gender_weight", "train/race_weight", "lr/heads", "train/grad_norm", "train/grad_norm_max",
    "speed/images_per_second", "speed/data_wait_share", "memory/gpu_peak_gib",
)  # fmt: skip

PLOTS = (
    "val/cumulative_score", "val/predicted_against_true", "val/confusion_age_groups", "val/confusion_gender",
    "val/confusion_race",
)  # fmt: skip


def workspace(entity: str, project: str) -> workspaces.Workspace:
    """Return the unsaved workspace."""
    sections = [
        workspaces.Section(
            name=name,
            is_open=name == "Age",
            panels=[panels.LinePlot(title=key, y=[f"train/{key}", f"val/{key}"]) for key in keys],
        )
        for name, keys in LINES.items()
    ]
    tests = [panels.BarPlot(title=f"test {key}", metrics=[f"test/{key}"]) for key in LINES["Age"]]
    sections += [
        workspaces.Section(name="Test", is_open=True, panels=tests),
        workspaces.Section(
            name="Validation faces", panels=[panels.MediaBrowser(media_keys=[key]) for key in PLOTS]
        ),
        workspaces.Section(name="Training", panels=[panels.LinePlot(title=key, y=[key]) for key in TRAINING]),
    ]
    return workspaces.Workspace(entity=entity, project=project, name="Age estimation", sections=sections)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Arrange the W&B workspace of the project.")
    parser.add_argument("entity", help="user or team")
    parser.add_argument("--project", default="mtmsa-lightning")
    options = parser.parse_args()
    if wandb.api.api_key is None:
        raise SystemExit("error: arranging a workspace needs a key of W&B: run `wandb login` first")
    print(workspace(options.entity, options.project).save().url)
