"""A linear layer in float32, the last layer of heads."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Float32Linear(nn.Linear):
    """Linear layer computed in float32 or better, also under autocast and with half-precision weights."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the outputs, in float32 or better."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(input.device.type, enabled=False):
            return F.linear(input.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
