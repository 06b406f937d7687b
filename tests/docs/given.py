"""What pages use without making it: a small network, its loader and its score."""

import torch
from torch import nn

torch.manual_seed(0)
loader = list(torch.randn(32, 3, 16, 16).split(8))
net = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()
with torch.no_grad():
    wanted = [net(batch).argmax(1) for batch in loader]


def top1(network):
    """Share of the loader that a network decides as the dense one does."""
    with torch.no_grad():
        hits = [network(x).argmax(1) == y for x, y in zip(loader, wanted)]
    return 100 * float(torch.cat(hits).float().mean())
