"""QuantMutator keeps the contract of mutators."""

import torch

from mmcompress.data.images import Batch
from mmcompress.graph import trace, verify
from mmcompress.mutators import Calibration, QuantMutator
from mmcompress.policy import Policy
from mmcompress.testing.mutating import MutatorContract


class TestQuantMutator(MutatorContract):
    mutator = QuantMutator
    options = dict(bits=[4, 6, 8])
    unknown = (Policy({}, {'nope': (8, 8)}), Policy({}, {'head': (8, 9)}))

    def prepare(self, mutator, model):
        image = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(3))
        graph = verify(model, trace(model, (3, 16, 16)))
        mutator.prepare(model, graph, Calibration([Batch(image, [])]))
