"""nn.Dropout with masks that are drawn faster on a CPU."""

import numpy as np
import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """nn.Dropout whose mask is drawn with NumPy's SFC64 on a CPU: PyTorch draws it there number by number.

    Each value is kept or not by 16 random bits of its own, so `p` is met to within 2**-17; what is kept is scaled by
    1 / (1 - p), as in PyTorch. The bits follow from torch's global generator: equal seeds give equal masks, and a
    resumed run goes on with the masks that would have followed. On other devices, and compiled, this is nn.Dropout.
    """

    def forward(self, values: Tensor) -> Tensor:
        """`values` of any shape, in training with a share of `p` set to zero."""
        if not self.training or values.device.type != "cpu" or self.p in (0, 1) or torch.compiler.is_compiling():
            return super().forward(values)
        seed = int(torch.randint(2**63 - 1, ()))
        words = np.random.SFC64(seed).random_raw(-(-values.numel() // 4))  # 64 bits are four draws
        kept = words.view(np.int16) >= round(self.p * 2**16) - 2**15  # from -2**15 on; four times faster than in torch
        kept = torch.from_numpy(kept.view(np.uint8)[: values.numel()]).view(values.shape)
        mask = torch.empty_like(values).copy_(kept)  # laid out like the values, else each product takes twice the time
        return values * mask.mul_(1 / (1 - self.p))
