"""The network that ``toy_graph`` writes down by hand, with real weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ToyNetwork(nn.Module):
    """Tracing this on 3 x 16 x 16 images must give :func:`toy_graph`.

    Norms hold random statistics and scales, as after training: with fresh ones a
    misplaced norm would not show.

    Args:
        seed (int): Seed of the weights. Defaults to 0.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(16)
        self.reduce = nn.Conv2d(16, 8, 1, bias=False)
        self.reduce_bn = nn.BatchNorm2d(8)
        self.expand = nn.Conv2d(8, 16, 3, padding=1, bias=False)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.depth_bn = nn.BatchNorm2d(16)
        self.point = nn.Conv2d(16, 24, 1, bias=False)
        self.merge = nn.Conv2d(40, 32, 1, bias=False)
        self.head = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.predict = nn.Conv2d(32, 6, 1)
        self.fc = nn.Linear(32 * 4, 16)
        self.scale_predict = nn.Parameter(torch.empty(6))
        self.scale_fc = nn.Parameter(torch.empty(16))
        generator = torch.Generator().manual_seed(seed)
        for name, value in self.state_dict().items():
            if value.is_floating_point():
                fan_in = value[0].numel() if value.dim() > 1 else 1
                value.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if name.endswith('running_var'):
                value.abs_().add_(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``(N, 3, H, W)`` to two prediction maps and 16 logits."""
        x = F.relu(self.stem_bn(self.stem(x)))
        inner = F.relu(self.reduce_bn(self.reduce(x)))
        x = F.relu(x + self.expand(inner))
        x = F.relu(self.depth_bn(self.depth(x)))
        x = F.relu(self.merge(torch.cat([F.relu(self.point(x)), x], 1)))
        maps = [F.relu(self.head(level)) for level in (x, F.avg_pool2d(x, 2))]
        scale = self.scale_predict.view(1, -1, 1, 1)
        fine, coarse = (self.predict(level) * scale for level in maps)
        logits = self.fc(F.adaptive_avg_pool2d(maps[1], 2).flatten(1))
        return fine, coarse, logits * self.scale_fc
