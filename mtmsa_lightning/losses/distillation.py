"""Losses against the soft labels of trained networks.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), at temperature 1.
"""

import torch
from torch import Tensor

SMALLEST = 1e-12
"""Probability below which a soft label or a prediction counts as this."""


def soft_label_loss(log_probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Kullback-Leibler divergence of predictions from soft labels, and the number of faces.

    ``sum over faces and classes of q (log q - log p)``, in nats: 0 where they are equal.

    Args:
        log_probs: Logarithms of the predicted probabilities p, ``(N, K)``.
        target: Probabilities q of the soft labels, ``(N, K)``; rows sum to 1.
    """
    log_probs = log_probs.double().clamp(min=torch.tensor(SMALLEST).log().item())
    target = target.double()
    divergence = target * (target.clamp(min=SMALLEST).log() - log_probs)
    return divergence.sum(), torch.full((), len(target), device=target.device)
