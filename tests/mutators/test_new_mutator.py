"""A mutator beside widths and bits: clipped activations; this file is all it takes."""

import pytest
import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.graph import trace, verify
from mmcompress.mutators import Calibration, JointMutator, Mutator
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.registry import MUTATORS
from mmcompress.testing import MutatorContract, ToyNetwork

SHAPE = (3, 16, 16)
POLICY = Policy({'stem': 8, 'head': 16}, {'head': Bits(8, 8)})


class Clip(nn.Module):
    """Limits values; a plain module, so that copies and files know what to do."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of at most ``limit`` either way."""
        return x.clamp(-self.limit, self.limit)


@MUTATORS.register_module()
class ClipMutator(Mutator):
    """Clips what quantised layers read to a share of the largest calibration value."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def prepare(self, model, graph, calibration):
        """Look at the images."""
        self.model, self.graph = model, graph
        largest = max(float(batch.inputs.abs().max()) for batch in calibration.batches)
        self.clip = Clip(self.share * largest)

    def act(self, policy, kept):
        """Put the limit in front of the layers that have bits."""
        modules = dict(self.model.named_modules())
        for name in policy.bits:
            forward = modules[name].forward
            yield modules[name], dict(
                forward=lambda x, forward=forward: forward(self.clip(x)))

    def write(self, model, policy, kept):
        """The same for good."""
        modules = dict(model.named_modules())
        for name in policy.bits:
            modules[name].register_forward_pre_hook(
                lambda _, args: (self.clip(args[0]),))


def images() -> torch.Tensor:
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3))


class TestClipMutator(MutatorContract):
    mutator = ClipMutator
    options = dict(share=0.05)
    unknown = ()

    def prepare(self, mutator, model):
        mutator.prepare(model, verify(model, trace(model, SHAPE)),
                        Calibration([Batch(images(), [])]))

    def space(self, mutator):
        return SearchSpace.from_graph(
            trace(ToyNetwork(), SHAPE), weight_bits=(8, 32), prune=False)


@pytest.fixture
def joint() -> JointMutator:
    """Widths, the clip and bits, as a config names them."""
    model = ToyNetwork().eval()
    mutator = JointMutator.from_config(dict(
        quant=dict(bits=[8], skip=['depth']), clip=dict(type='ClipMutator', share=0.1),
        channel=dict(divisor=4), input_shape=SHAPE))
    mutator.prepare(model, verify(model, trace(model, SHAPE)),
                    Calibration([Batch(images(), [])]))
    return mutator


def test_mutators_of_a_config_act_from_widths_to_bits(joint):
    assert [type(mutator).__name__ for mutator in joint.mutators] == [
        'ChannelMutator', 'ClipMutator', 'QuantMutator']
    assert joint.space_options['prune'] and joint.space_options['divisor'] == 4


def test_what_acts_is_what_is_written(joint):
    x = images()
    with torch.no_grad():
        dense = joint.model(x)[2]
        with joint.acting(POLICY) as model:
            acted = model(x)[2]
        slim = joint.materialise(POLICY)
        assert slim.head.in_channels == 32 and slim.head.out_channels == 16
        torch.testing.assert_close(slim(x)[2], acted)
        assert torch.equal(joint.model(x)[2], dense)
        assert not torch.allclose(acted, dense)
