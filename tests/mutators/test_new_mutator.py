"""A mutator beside widths and bits: damped activations; this file is all it takes."""

import pytest
import torch

from mmcompress.data.images import Batch
from mmcompress.graph import trace, verify
from mmcompress.mutators import Calibration, JointMutator, Mutator
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.registry import MUTATORS
from mmcompress.testing import MutatorContract, ToyNetwork

SHAPE = (3, 16, 16)
POLICY = Policy({'stem': 8, 'head': 16}, {'head': Bits(8, 8)})


@MUTATORS.register_module()
class DampMutator(Mutator):
    """Makes what quantised layers read smaller where calibration images are large."""

    def __init__(self, strength: float = 0.1) -> None:
        self.strength = strength

    def prepare(self, model, graph, calibration):
        """Look at the images."""
        self.model, self.graph = model, graph
        largest = max(float(batch.inputs.abs().max()) for batch in calibration.batches)
        self.factor = 1 / (1 + self.strength * largest)

    def act(self, policy, kept):
        """Damp the inputs of the layers that have bits."""
        modules = dict(self.model.named_modules())
        for name in policy.bits:
            forward = modules[name].forward
            yield modules[name], dict(
                forward=lambda x, forward=forward: forward(x * self.factor))

    def write(self, model, policy, kept):
        """The same for good."""
        modules = dict(model.named_modules())
        for name in policy.bits:
            modules[name].register_forward_pre_hook(
                lambda _, args: (args[0] * self.factor,))


def images() -> torch.Tensor:
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3))


class TestDampMutator(MutatorContract):
    mutator = DampMutator
    unknown = ()

    def prepare(self, mutator, model):
        mutator.prepare(model, verify(model, trace(model, SHAPE)),
                        Calibration([Batch(images(), [])]))

    def space(self, mutator):
        return SearchSpace.from_graph(
            trace(ToyNetwork(), SHAPE), weight_bits=(4, 6, 8, 32), prune=False)


@pytest.fixture
def joint() -> JointMutator:
    """Widths, the damping and bits, as a config names them."""
    model = ToyNetwork().eval()
    mutator = JointMutator.from_config(dict(
        quant=dict(bits=[8], skip=['depth']),
        damp=dict(type='DampMutator', strength=1.0),
        channel=dict(divisor=4), input_shape=SHAPE))
    mutator.prepare(model, verify(model, trace(model, SHAPE)),
                    Calibration([Batch(images(), [])]))
    return mutator


def test_mutators_of_a_config_act_from_widths_to_bits(joint):
    assert [type(mutator).__name__ for mutator in joint.mutators] == [
        'ChannelMutator', 'DampMutator', 'QuantMutator']
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
