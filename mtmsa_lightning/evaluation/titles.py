"""What figures are called, and how they are written."""

TITLES = {
    "age_mae": "age MAE (years)", "age_cs5": "age CS@5", "age_nll": "age NLL (nats)",
    "age_interval_nll": "age group NLL (nats)", "group_acc": "age group accuracy",
    "group_acc_1off": "age group 1-off accuracy", "gender_acc": "gender accuracy",
    "race_acc": "race accuracy", "loss": "loss",
}  # fmt: skip
SHARES = ("age_cs5", "group_acc", "group_acc_1off", "gender_acc", "race_acc")
"""Figures from 0 to 1 that are written in percent; of these more is better, of the others less."""


def format_figure(name: str, value: float) -> str:
    """Format a metric: shares in percent, everything else with two decimals."""
    return f"{100 * value:.1f} %" if name in SHARES else f"{value:.2f}"
