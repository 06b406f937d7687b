"""Layers that only training calls lose the inputs that units lose."""

import pytest
import torch
from torch import nn

from mmcompress.arithmetic.labels import LabelTracer
from mmcompress.costs import Costs, CostTable
from mmcompress.graph import trace, verify
from mmcompress.graph.boundaries import trace_boundaries
from mmcompress.kinds import declare_kind
from mmcompress.policy import Policy, SearchSpace
from mmcompress.surgery.materialise import materialise
from mmcompress.testing.auxiliary import LearnsZeros, WithAuxiliary


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = WithAuxiliary()
    declare_kind(model, LearnsZeros())
    return model


def test_auxiliary_layers_lose_inputs_and_keep_outputs(model):
    graph = trace(model, (3, 8, 8))
    assert graph.auxiliary == ('aux.0', 'aux.2') and graph.unvisited == ('idle',)
    assert [layer.name for layer in graph.layers] == ['a', 'b']
    unit, = graph.units
    assert [(m.layer, m.side) for m in unit.members] == [
        ('a', 'out'), ('norm', 'out'), ('b', 'in'), ('aux.0', 'in')]
    assert 'only training calls: (\'aux.0\', \'aux.2\')' in graph.describe()


def test_what_they_read_costs_parameters_and_no_macs(model):
    graph = verify(model, trace(model, (3, 8, 8)))
    policy = Policy({'a': 3})
    space = SearchSpace.from_graph(graph, divisor=1)
    costs = Costs(CostTable.from_graph(graph), space).of(policy)
    slim = materialise(model, graph, policy)
    # a: 3 x 3 + 3; norm: 2 x 3; b: 3 x 2 + 2; aux: 9 x 3 x 6, 12, 14; idle: 9.
    assert costs['params'] == 12 + 6 + 8 + 162 + 12 + 14 + 9
    assert costs['params'] == sum(p.numel() for p in slim.parameters())
    assert costs['macs'] == 64 * (9 + 6)


def test_the_slim_network_can_be_trained(model):
    graph = trace(model, (3, 8, 8))
    slim = materialise(model, graph, Policy({'a': 3})).train()
    kind = LearnsZeros()
    kind.loss(slim, kind.annotated(slim, (3, 8, 8), 2)).backward()
    assert {n for n, p in slim.named_parameters() if p.grad is None} == {
        'idle.weight', 'idle.bias'}


def test_boundaries_are_those_of_inference(model):
    graph = trace(model, (3, 8, 8))
    occupancy, = trace_boundaries(model, graph, ('b',)).values()
    assert set(occupancy.units) == {'a'}


def test_nothing_of_the_model_or_the_random_numbers_changes(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    trace(model, (3, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and model.training


def test_units_do_not_depend_on_the_weights(model):
    found = trace(model, (3, 8, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float('nan'))
    again = trace(model, (3, 8, 8))
    assert again.auxiliary == found.auxiliary


def test_a_loss_that_fails_ties_nothing(model, monkeypatch, caplog):
    def fail(self, model, batch):
        model.aux(model.norm(model.a(batch.inputs)))
        raise RuntimeError('no such loss')

    monkeypatch.setattr(LearnsZeros, 'loss', fail)
    graph = trace(model, (3, 8, 8))
    assert graph.auxiliary == () and graph.unvisited == ('aux.0', 'aux.2', 'idle')
    assert [m.layer for m in graph.units[0].members] == ['a', 'norm', 'b']


def test_a_larger_image_is_tried(model, monkeypatch):
    seen = []
    annotated = LearnsZeros.annotated

    def picky(self, model, shape, count=1):
        seen.append(shape[-1])
        if shape[-1] < 100:
            raise ValueError('too small')
        return annotated(self, model, shape, count)

    monkeypatch.setattr(LearnsZeros, 'annotated', picky)
    assert trace(model, (3, 100, 100)).auxiliary == ('aux.0', 'aux.2')
    assert seen == [64, 100]


def test_no_loss_is_followed_where_inference_calls_all(model, monkeypatch):
    monkeypatch.setattr(LearnsZeros, 'loss', None)
    model.aux = model.idle = nn.Identity()
    assert trace(model, (3, 8, 8)).unvisited == ()


def test_an_attempt_that_fails_ties_nothing():
    tracer = LabelTracer()
    left, right = (tracer.block(name, 'out', 2) for name in 'ab')
    with pytest.raises(ValueError), tracer.attempt():
        tracer.paused += 1
        tracer.arranges = True
        tracer.tie(left.atoms, right.atoms)
        raise ValueError
    assert len(set(tracer.components().tolist())) == 5
    assert not tracer.paused and not tracer.arranges
    with tracer.attempt():
        tracer.tie(left.atoms, right.atoms)
    assert len(set(tracer.components().tolist())) == 3
