"""Weights rounded together: acting, written, priced, narrowed, exported."""

import onnxruntime
import pytest
import torch

from mmcompress.data.images import Batch
from mmcompress.errors import CompressionError
from mmcompress.exporter.agreement import relative_error
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.graph import trace, verify
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator, QuantMutator
from mmcompress.policy import Bits, Policy
from mmcompress.surgery.copies import copy_of
from mmcompress.testing import ToyNetwork
from mmcompress.testing.mutating import MutatorContract

SHAPE = (3, 16, 16)
WIDTHS = {'stem': 8, 'reduce': 4, 'point': 12, 'merge': 20, 'head': 9}
LAYERS = ('stem', 'reduce', 'expand', 'depth', 'point', 'merge', 'head', 'predict',
          'fc')
W3 = Policy({}, {name: Bits(3, 8) for name in LAYERS})


def images(seed=3, count=16):
    """Images of a few patterns, so that channels have something in common."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    shares = torch.randn(count, 4, generator=generator)
    noise = torch.randn(count, *SHAPE, generator=generator)
    return torch.einsum('np,pchw->nchw', shares, patterns) + 0.2 * noise


def prepared(widths=False, model=None, **options):
    options = dict(bits=[3, 8], keep8=()) | options
    mutator = JointMutator(*[ChannelMutator(divisor=1)] * widths,
                           QuantMutator(**options))
    model = model or ToyNetwork().eval()
    mutator.prepare(model, verify(model, trace(model, SHAPE)), Calibration(
        tuple(Batch(x, []) for x in images().split(8))))
    return mutator


@torch.no_grad()
def outputs(model, x):
    return torch.cat([out.flatten() for out in model(x)])


@torch.no_grad()
def calls_of(layer, model):
    """Outputs of a layer in all its calls, ``(out, places)``."""
    seen = []
    handle = layer.register_forward_hook(
        lambda _, args, out: seen.append(out.transpose(0, 1).flatten(1)))
    model(images())
    handle.remove()
    return torch.cat(seen, 1)


class TestGptq(MutatorContract):
    mutator = QuantMutator
    options = dict(bits=[3, 8], rounding='gptq')
    unknown = (Policy({}, {'nope': (8, 8)}),)

    def prepare(self, mutator, model):
        mutator.prepare(model, verify(model, trace(model, SHAPE)),
                        Calibration([Batch(images(), [])]))

    @torch.no_grad()  # with gradients the weights that act are rounded to the nearest
    def test_acting_equals_materialised(self):
        super().test_acting_equals_materialised()


def test_unknown_rounding():
    with pytest.raises(CompressionError, match="one of 'nearest', 'gptq', not 'obq'"):
        QuantMutator(rounding='obq')


def test_each_layer_errs_less_than_with_the_nearest():
    nearest, together = prepared(), prepared(rounding='gptq')
    for name in LAYERS:
        policy, errors = Policy({}, {name: Bits(3, 32)}), []
        for mutator in (nearest, together):
            layer = mutator.model.get_submodule(name)
            dense = calls_of(layer, mutator.model)
            with torch.no_grad(), mutator.acting(policy):
                acting = calls_of(layer, mutator.model)
            errors.append(float((acting - dense).var(1).sum()))
        # Random weights and little in common: the stem has least to win.
        assert errors[1] < (0.5 if name in ('merge', 'head', 'fc') else 0.98) * errors[
            0], name


def test_what_is_written_is_what_acts_and_on_the_grid():
    mutator = prepared(widths=True, rounding='gptq')
    for policy in (W3, Policy(WIDTHS, W3.bits)):
        with torch.no_grad(), mutator.acting(policy):
            acting = {name: mutator.model.get_submodule(name).weight.clone()
                      for name in LAYERS}
            acted = outputs(mutator.model, images(5))
        slim = mutator.materialise(policy)
        for name in LAYERS:
            layer = slim.get_submodule(name)
            assert torch.equal(layer.weight_quantizer(layer.weight), layer.weight)
            assert layer.weight.unique().numel() > 2
        torch.testing.assert_close(
            outputs(slim, images(5)), acted, atol=1e-5, rtol=1e-5)
        assert sum(w.numel() for w in acting.values()) == sum(
            slim.get_submodule(name).weight.numel() for name in LAYERS)


def test_gradients_keep_to_the_nearest():
    nearest, together = prepared(), prepared(rounding='gptq')
    with torch.enable_grad(), nearest.acting(W3), together.acting(W3):
        a, b = (torch.cat([y.flatten() for y in m.model(images(5))])
                for m in (nearest, together))
        assert torch.equal(a, b) and b.requires_grad
    with torch.no_grad(), together.acting(W3):
        assert not torch.equal(outputs(together.model, images(5)), a)


def test_prices_are_those_of_rounded_weights():
    mutator = prepared(rounding='gptq').quantiser
    with torch.no_grad(), mutator.acting(Policy({}, {'head': Bits(3, 32)})):
        acting = mutator.model.head.weight.clone()
    assert torch.equal(mutator.weight('head', 3), acting)
    assert not torch.equal(prepared().quantiser.weight('head', 3), acting)


def test_the_bits_of_inputs_decide():
    mutator = prepared(
        rounding='gptq', weight_bits=[3], activation_bits=[2, 8]).quantiser
    weights = {}
    for bits in (2, 3, 8, 32):
        with torch.no_grad(), mutator.acting(Policy({}, {'head': Bits(3, bits)})):
            weights[bits] = mutator.model.head.weight.clone()
    assert not torch.equal(weights[2], weights[8])
    # Not measured: the next finer choice, or the finest.
    assert torch.equal(weights[3], weights[8])
    assert torch.equal(weights[32], weights[8])


def test_layers_that_are_rounded_to_the_nearest_are_named(caplog):
    class Upward(ToyNetwork):
        def __init__(self):
            super().__init__()
            self.up = torch.nn.ConvTranspose2d(6, 6, 2, 2)

        def forward(self, x):
            fine, coarse, logits = super().forward(x)
            return fine + self.up(coarse), coarse, logits

    model = Upward().eval()
    mutator = prepared(rounding='gptq', model=model).quantiser
    assert set(mutator.covariances) == {*LAYERS}
    with torch.no_grad(), mutator.acting(Policy({}, {'up': Bits(3, 8)})):
        acting = model.up.weight.clone()
    model = Upward().eval()
    model.load_state_dict(mutator.model.state_dict())
    nearest = prepared(model=model).quantiser
    assert torch.equal(acting, nearest.weight('up', 3))


class Chain(torch.nn.Sequential):
    """Without additions, whose quantisers a file has and a model has not."""

    def __init__(self):
        super().__init__(
            torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(16),
            torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False),
            torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Conv2d(16, 6, 1))


def test_the_file_computes_what_the_model_does(tmp_path):
    torch.manual_seed(0)
    model = Chain().eval()
    with torch.no_grad():  # also a negative scale, which negates integers
        for norm in (model[1], model[4]):
            norm.weight.normal_()
            norm.bias.normal_()
    policy = Policy({}, {name: Bits(4, 8) for name in '036'})
    slim = prepared(rounding='gptq', model=model).materialise(policy)
    nearest = prepared(model=copy_of(model)).materialise(policy).eval()
    arrays = [x[None].numpy() for x in images(5, 4)]
    export_onnx(slim.eval(), tmp_path / 'net.onnx', ExportOptions(SHAPE, images=arrays))
    session = onnxruntime.InferenceSession(
        str(tmp_path / 'net.onnx'), providers=['CPUExecutionProvider'])
    for array in arrays:
        found = session.run(None, {session.get_inputs()[0].name: array})[0]
        with torch.no_grad():
            wanted, other = (
                net(torch.from_numpy(array)).numpy() for net in (slim, nearest))
        # A value next to a tie may land on the other integer.
        assert relative_error(found, wanted) < 2 / 255 < relative_error(found, other)
