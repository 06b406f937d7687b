"""Bits, and widths with bits: acting, materialised, restored; presets; prices."""


import pytest
import torch

from mmcompress.data.images import Batch
from mmcompress.errors import CompressionError, DataError, PolicyError
from mmcompress.graph import trace, verify
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator, QuantMutator
from mmcompress.policy import Bits, Policy, SearchSpace
from mmcompress.testing.toy_network import ToyNetwork

BITS = {
    'stem': (8, 8), 'reduce': (4, 8), 'expand': (8, 4), 'depth': (4, 6),
    'point': (6, 6), 'merge': (3, 8), 'head': (4, 4), 'predict': (8, 8), 'fc': (8, 8)}
WIDTHS = {'stem': 8, 'reduce': 4, 'point': 12, 'merge': 20, 'head': 9}


class Images:
    """The part of an evaluator that mutators ask."""

    def __init__(self, count=16):
        image = torch.randn(
            count, 3, 16, 16, generator=torch.Generator().manual_seed(3))
        self.calibration = [Batch(part, []) for part in image.split(8)]


def prepared(mutator, model=None):
    model = model or ToyNetwork().eval()
    graph = verify(model, trace(model, (3, 16, 16)))
    images = Images()
    mutator.prepare(model, graph, Calibration(images.calibration))
    return mutator, model, graph


def outputs(model):
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(image.to(next(model.parameters()).dtype))


def joint(**options):
    return JointMutator(ChannelMutator(divisor=2), QuantMutator(**options))


def test_joint_acting_equals_materialised():
    # In float64, as sums in another order could move a value across a tie.
    mutator, model, _ = prepared(joint())
    dense = [x.clone() for x in outputs(model)]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.double()
    for policy in (Policy(WIDTHS, BITS), Policy(WIDTHS), Policy({}, BITS),
                   Policy({'head': 16}, {'head': (4, 8), 'fc': (4, 32)})):
        with mutator.acting(policy):
            acting = outputs(model)
        slim = mutator.materialise(policy)
        for a, b in zip(acting, outputs(slim)):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        quantised = {k.rpartition('.weight_quantizer')[0] for k in slim.state_dict()
                     if k.endswith('weight_quantizer.scale')}
        assert quantised == {n for n, b in policy.bits.items() if b.weight < 32}
        for name, bits in policy.bits.items():
            layer = slim.get_submodule(name)
            assert layer.bits == bits
            if bits.weight < 32:
                assert len(layer.weight_quantizer.scale) == layer.weight.shape[0]
    model.float()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(outputs(model), dense))


def test_an_error_in_one_mutator_resets_the_other():
    mutator, model, _ = prepared(joint())
    dense = outputs(model)
    with pytest.raises(PolicyError, match='cannot be quantised'):
        mutator.apply(Policy(WIDTHS, {'nope': (8, 8)}))
    assert all(torch.equal(a, b) for a, b in zip(outputs(model), dense))


def test_the_space_follows_from_what_is_configured():
    quant = dict(bits=[4, 8], skip=['depth'])
    spaces = {}
    for name, config in dict(
        widths=dict(channel=dict(divisor=2)), bits=dict(quant=quant),
        joint=dict(channel=dict(divisor=2), quant=quant), default={},
    ).items():
        mutator, _, graph = prepared(JointMutator.from_config(config))
        spaces[name] = SearchSpace.from_graph(graph, **mutator.space_options)
    free = {name: len(space.free) for name, space in spaces.items()}
    # Five units; of nine layers stem, predict and fc stay at 8, depth in float.
    assert free == dict(widths=5, bits=10, joint=15, default=5)
    row = spaces['joint'].highest[5:14].tolist()
    assert dict(zip(spaces['joint'].layers, row)) == {
        **dict.fromkeys(BITS, 8), 'depth': 32}


@pytest.mark.parametrize('keep8, expected', [
    (['first'], {'stem'}), (['predictors'], {'predict', 'fc'}),
    (['classifier'], {'fc'}), (['he*'], {'head'}), ([], set())])
def test_presets(keep8, expected):
    mutator, _, _ = prepared(QuantMutator([4, 6], keep8=keep8))
    choices = mutator.space_options['weight_bits']
    assert {n for n, c in choices.items() if c == (8,)} == expected
    assert {c for n, c in choices.items() if n not in expected} == {(4, 6)}


@pytest.mark.parametrize('options, message', [
    (dict(keep8=['nope']), "'nope' in keep8 or skip matches no layer"),
    (dict(bits=[9]), 'bits of QuantMutator is a list'),
    (dict(observer='kl'), 'observer of QuantMutator is one of')])
def test_mistakes_show_before_the_search(options, message):
    with pytest.raises(CompressionError, match=message):
        prepared(QuantMutator(**options))


def test_no_calibration_images():
    model = ToyNetwork().eval()
    with pytest.raises(DataError, match='calibration_images'):
        QuantMutator().prepare(model, verify(model, trace(model, (3, 16, 16))))


def test_layers_that_read_one_tensor_have_one_range():
    class Fork(ToyNetwork):
        def __init__(self):
            super().__init__()
            self.twin = torch.nn.Conv2d(16, 8, 1)

        def forward(self, x):
            fine, coarse, logits = super().forward(x)
            stem = torch.relu(self.stem_bn(self.stem(x)))
            mean = (self.reduce(stem) + self.twin(stem)).mean((1, 2, 3))
            return fine, coarse, logits + mean[:, None]

    mutator, _, _ = prepared(QuantMutator(), Fork().eval())
    assert mutator.groups['twin'] == mutator.groups['reduce'] == 'reduce'
    assert mutator.range('twin', 4) == mutator.range('reduce', 4)
    assert mutator.groups['expand'] == 'expand'


def test_bias_correction_keeps_the_mean():
    # A layer at 2 bits; what it loses is constant where its inputs are constant.
    mutator, model, _ = prepared(QuantMutator(bits=[2]))
    layer = model.predict
    seen = []
    handle = layer.register_forward_hook(lambda m, args, out: seen.append(out))
    means = {}
    for name, policy in dict(dense={}, corrected={'predict': Bits(2, 32)}).items():
        seen.clear()
        with torch.no_grad(), mutator.acting(Policy({}, policy)):
            for batch in Images().calibration:
                model(batch.inputs)
        # Both levels, weighted by their positions, as in calibration.
        flat = torch.cat([x.movedim(1, 0).flatten(1) for x in seen], 1)
        means[name] = flat.mean(1)
    handle.remove()
    torch.testing.assert_close(
        means['corrected'], means['dense'], rtol=1e-4, atol=1e-4)


def test_weights_are_quantised_once_per_bit_width(monkeypatch):
    mutator, model, _ = prepared(QuantMutator())
    policy = Policy({}, BITS)
    with torch.no_grad(), mutator.acting(policy):
        pass
    from mmcompress.mutators import quant as module
    monkeypatch.setattr(module, 'weight_scales', None)
    with torch.no_grad(), mutator.acting(policy):
        assert not model.head.weight_quantizer.__dict__.get('scale')
        assert len(model.head.weight.unique()) <= 15 * 32
    monkeypatch.undo()
    with torch.no_grad():
        model.head.weight.mul_(2)  # trained meanwhile: the memory is out of date
        expected = mutator.weight('head', 4)
        assert (expected - model.head.weight).abs().max() < 1


def test_single_tensors_for_prices():
    mutator, _, _ = prepared(joint())
    assert mutator.quantiser is mutator.mutators[1]
    weight = mutator.quantiser.weight('head', 4)
    assert max(len(row.unique()) for row in weight) <= 15
    x = torch.randn(1, 16, 4, 4)
    assert len(mutator.quantiser.activation('reduce', x, 3).unique()) <= 8
    assert mutator.scores is mutator.channel.scores
    bits_only, _, _ = prepared(JointMutator(QuantMutator()))
    assert bits_only.scores is None
