"""Choose and check accelerator and precision."""

from typing import Any

import torch

from mtmsa_lightning.errors import ConfigError

NO_MPS = "Apple's GPU (mps) has no float64, which losses and metrics are computed in: choose cpu"


def choose_accelerator(name: Any) -> Any:
    """Return Lightning's accelerator: ``auto`` is CUDA or the CPU, ``gpu`` CUDA; ConfigError for ``mps``."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "mps":
        raise ConfigError(NO_MPS)
    return "cuda" if name == "gpu" else name


def check_device(device: torch.device) -> None:
    """Raise ConfigError for a device that cannot compute in float64."""
    if device.type == "mps":
        raise ConfigError(NO_MPS)


def check_precision(precision: str | None) -> None:
    """Raise ConfigError for a precision that computes losses and metrics in 16 bits."""
    if precision in ("16-true", "bf16-true"):
        mixed = precision.replace("true", "mixed")
        raise ConfigError(
            f"trainer.precision {precision} would hold weights, losses and metrics in 16 bits: choose {mixed}"
        )


def best_precision(accelerator: Any) -> str:
    """Return bf16-mixed for a chosen accelerator with native support, else 32-true."""
    native = accelerator == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device that can be used; raise ConfigError otherwise."""
    try:
        usable = torch.device(choose_accelerator(device))
        check_device(usable)
        torch.empty(1, device=usable)
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA raises AssertionError
        raise ConfigError(
            f"device {str(device)!r} cannot be used here ({str(error).splitlines()[0]}): give cpu, auto, or "
            "a GPU of this machine such as cuda:0"
        ) from error
    return usable
