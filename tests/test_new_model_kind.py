"""A kind of model that only this file knows goes through the whole toolkit."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmcompress.costs import Costs, CostTable
from mmcompress.data.images import Batch
from mmcompress.evaluation import PolicyEvaluator
from mmcompress.evaluation.policy_evaluator import Images
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.graph import trace, verify
from mmcompress.kinds import ModelKind, Piece, kind_of, register_kind
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy, SearchSpace
from mmcompress.prices import Subject
from mmcompress.prices.gradient import GradientPrices
from mmcompress.surgery.materialise import materialise

SHAPE = (3, 8, 8)


class TwoViews(nn.Module):
    """Takes two images by name and returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.scores = nn.Conv2d(16, 4, 1)

    def forward(self, *, left, right):
        """Scores of four classes, ``(N, 4)``."""
        x = torch.cat([self.left(left), self.right(right)], 1)
        x = self.scores(F.relu(self.norm(x)))
        return dict(scores=x.mean((2, 3)))


class TwoViewsKind(ModelKind):
    """The right view is the left one, mirrored."""

    def fits(self, model):
        """Only the class above."""
        return isinstance(model, TwoViews)

    def raw(self, model, batch):
        """What the network returns."""
        return model(left=batch.inputs, right=batch.inputs.flip(3))

    def loss(self, model, batch):
        """Cross entropy."""
        labels = torch.stack(batch.samples()).flatten()
        return F.cross_entropy(self.raw(model, batch)['scores'], labels)

    def predict(self, model, batch):
        """Labels."""
        return self.raw(model, batch)['scores'].argmax(1)

    def heads(self, model):
        """One."""
        return ('scores',)

    def pieces(self, model, images, boxes=False):
        """A file of two inputs."""
        return [Piece(
            '', lambda module, left, right: [module(left=left, right=right)['scores']],
            (images, images.flip(3)), ('left', 'right'))]


class Accuracy(PolicyEvaluator):
    """Scores on images that are there already."""

    def metrics_of(self, model):
        """The share of right labels."""
        right = [kind_of(model).predict(model, batch) == torch.cat(batch.samples())
                 for batch in self.scoring]
        return dict(accuracy=torch.cat(right).float().mean())

    def other_images(self, count, batch_size, dataset=None, augment=False):
        """Always the same ones."""
        return Images(lambda part: batches(7, count)[part], dict(images=count))


def batches(seed: int, count: int = 2) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [Batch(torch.randn((6, *SHAPE), generator=generator),
                  [torch.tensor([i % 4]) for i in range(6)]) for _ in range(count)]


@pytest.fixture(scope='module', autouse=True)
def registered():
    return register_kind(TwoViewsKind())


@pytest.fixture
def model() -> TwoViews:
    torch.manual_seed(0)
    model = TwoViews().eval()
    nn.init.uniform_(model.norm.running_var, 0.5, 2.0)
    return model


@pytest.fixture
def graph(model):
    return verify(model, trace(model, SHAPE))


def half(graph) -> Policy:
    return Policy({unit.name: unit.width // 2 for unit in graph.units})


def test_it_is_found(model, registered):
    assert kind_of(model) is registered
    assert type(kind_of(model.left)) is ModelKind


def test_it_is_traced_costed_and_made_slim(model, graph):
    assert sorted(u.name for u in graph.units) == ['left', 'right']
    costs = Costs(CostTable.from_graph(graph), SearchSpace.from_graph(graph))
    # Two convs of 3 x 9 x 8 weights and one of 16 x 4 on 8 x 8 places; with half the
    # channels half of each remains.
    assert costs.of(Policy())['macs'] == (2 * 216 + 64) * 64
    assert costs.of(half(graph))['macs'] == (216 + 32) * 64
    slim = materialise(model, graph, half(graph))
    assert slim.left.out_channels == 4 and slim.scores.in_channels == 8
    found = kind_of(slim).raw(slim, kind_of(slim).example(slim, SHAPE))
    assert found['scores'].shape == (1, 4)


@pytest.mark.parametrize('options', [
    dict(metric='accuracy'), dict(metric='loss'), dict(metric='distance'),
    dict(metric='accuracy', finetune=dict(steps=2, batch_size=6))])
def test_its_policies_are_scored(model, graph, options):
    evaluator = Accuracy(**options)
    evaluator.keep(model, batches(0), batches(1), training=batches(2))
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, graph)
    dense = evaluator.evaluate(Policy(), mutator)
    score = evaluator.evaluate(half(graph), mutator)
    assert math.isfinite(score.value)
    if options['metric'] == 'distance':
        assert dense.value == pytest.approx(0, abs=1e-9) and score.value < 0


def test_its_choices_have_prices(model, graph, tmp_path):
    evaluator = Accuracy('accuracy')
    evaluator.keep(model, batches(0), batches(1))
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, graph)
    space = SearchSpace.from_graph(graph, **mutator.space_options)
    table = GradientPrices(6).compute(
        Subject(model, graph, space, mutator, evaluator), tmp_path)
    assert (table.price >= 0).all() and table.price.any()


def test_it_becomes_a_file(model, graph, tmp_path):
    import onnx

    slim = materialise(model, graph, half(graph))
    [file] = export_onnx(slim, tmp_path / 'net.onnx', ExportOptions(SHAPE))
    proto = onnx.load(file.path)
    assert [x.name for x in proto.graph.input] == ['left', 'right']
    assert file.error < 1e-4
