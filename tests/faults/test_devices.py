"""What has to stay on one device, run on one that the CPU's tensors may not meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from other_device import Other, There, moved
from torch import Tensor, nn

from mmcompress.data.images import Batch
from mmcompress.evaluation.distance import REFERENCES
from mmcompress.evaluation.distillation import detection_distance, outputs_watched
from mmcompress.evaluation.dynamic_bn import dynamic_bn, pair, recalibrate
from mmcompress.graph import trace, verify
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator, QuantMutator
from mmcompress.mutators.importance import channel_scores
from mmcompress.mutators.reconstruct import ReconstructMutator
from mmcompress.openmmlab.models.distilled import DistillationTerm
from mmcompress.policy import Policy, SearchSpace
from mmcompress.prices import GradientPrices, MeasuredPrices, Subject, gradient
from mmcompress.prices.reconstruction import bit_errors, width_errors
from mmcompress.prices.store import PriceStore
from mmcompress.supernet import Supernet, read_stages
from mmcompress.supernet.recording import Recording
from mmcompress.surgery.weights import weights_digest
from mmcompress.testing.toy_network import ToyNetwork

SHAPE = (3, 16, 16)


OTHER = 'other'
WHERE = pytest.mark.parametrize('where', [OTHER, pytest.param('cuda', marks=[
    pytest.mark.cuda, pytest.mark.skipif(
        not torch.cuda.is_available(), reason='there is no GPU')])])


@pytest.fixture(autouse=True)
def other_device() -> Iterator[None]:
    """Let tensors be made on the other device."""
    with Other():
        yield


def images(where: str) -> list[Batch]:
    found = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    return [Batch(There(x) if where == OTHER else x.to(where), [])
            for x in found.split(4)]


def network(where: str) -> nn.Module:
    model = ToyNetwork().eval()
    return moved(model) if where == OTHER else model.to(where)


def prepared(where: str, *others) -> tuple[JointMutator, SearchSpace, list[Batch]]:
    """A mutator of widths and others on the network, here or there."""
    plain = ToyNetwork().eval()
    graph = verify(plain, trace(plain, SHAPE))
    mutator, batches = JointMutator(ChannelMutator(divisor=1), *others), images(where)
    mutator.prepare(network(where), graph, Calibration(batches))
    return mutator, SearchSpace.from_graph(graph, **mutator.space_options), batches


def policy(space: SearchSpace, bits: int = 32) -> Policy:
    """Half of every width, and bits where there are any."""
    row = space.snap(0.5 * space.highest)[0]
    row[space.bits] = space.snap(
        torch.full((len(space),), float(bits)).numpy())[0][space.bits]
    return space.decode(row)[0]


def same(there, here) -> None:
    """Outputs on the device are those of the CPU; a GPU rounds otherwise."""
    for one, other in zip(there, here):
        assert one.device != other.device
        exact = isinstance(one, There)
        torch.testing.assert_close(
            one.cpu(), other, rtol=1e-3, atol=1e-4 if exact else 0.1)


@WHERE
@pytest.mark.parametrize('others, bits', [
    ((), 32), ((ReconstructMutator,), 32), ((QuantMutator,), 8),
    ((ReconstructMutator, QuantMutator), 4)], ids=[
    'widths', 'repair', 'bits', 'all'])
def test_acting_and_writing(others, bits, where) -> None:
    outputs = []
    for device in (where, 'cpu'):
        mutator, space, batches = prepared(device, *(kind() for kind in others))
        wanted = policy(space, bits)
        pair(mutator.model, batches)
        with torch.no_grad(), mutator.acting(wanted) as model, \
                dynamic_bn(model, 'paired', batches):
            outputs.append([model(batches[0].inputs)])
        slim = mutator.materialise(wanted)
        recalibrate(slim, batches, paired=True)
        with torch.no_grad():
            outputs[-1].append(slim(batches[0].inputs))
    for there, here in zip(*outputs):
        same(there, here)


@WHERE
@pytest.mark.parametrize('mode', ['recalibrate', 'paired', 'batch', 'off'])
def test_dynamic_bn(mode: str, where: str) -> None:
    model, batches = network(where), images(where)
    pair(model, batches)
    with torch.no_grad(), dynamic_bn(model, mode, batches):
        assert model(batches[0].inputs)[0].device == batches[0].inputs.device


@WHERE
@pytest.mark.parametrize('kind', ['l1', 'l2', 'bn_scale', 'taylor', 'index', 'obs'])
def test_importance(kind: str, where: str) -> None:
    plain = ToyNetwork().eval()
    graph = verify(plain, trace(plain, SHAPE))
    found = []
    for device in (where, 'cpu'):
        model, batches = network(device), images(device)

        def loss(model: nn.Module = model, batches: list = batches) -> Tensor:
            return sum(x.square().mean() for x in model(batches[0].inputs))

        scores = channel_scores(model, graph, kind, Calibration(
            batches, lambda loss=loss: [loss]))
        found.append(scores.summed())
    for name, score in found[0].items():
        assert score == pytest.approx(found[1][name], rel=1e-3)


@WHERE
def test_closed_form_prices(where: str) -> None:
    found = []
    for device in (where, 'cpu'):
        mutator, space, batches = prepared(
            device, ReconstructMutator(), QuantMutator([4, 8]))
        subject = Subject(mutator.model, mutator.graph, space, mutator, None)
        found.append(
            {**width_errors(subject, batches), **bit_errors(subject, batches)})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 5
    for column, errors in found[0].items():
        assert errors == pytest.approx(found[1][column], rel=1e-2, abs=1e-6)


def square(model: nn.Module, batch: Batch) -> Tensor:
    """A loss that is the mean of those of the images."""
    return sum(x.square().mean() for x in model(batch.inputs))


@WHERE
def test_prices_by_gradients(where: str, monkeypatch, tmp_path: Path) -> None:
    # Networks that are nobody's kind have no loss; the terms of any loss are alike.
    monkeypatch.setattr(gradient, 'kind_of', lambda _: SimpleNamespace(loss=square))
    found = []
    for device in (where, 'cpu'):
        mutator, space, batches = prepared(device, QuantMutator([4, 8]))
        subject = Subject(mutator.model, mutator.graph, space, mutator, None)
        found.append(GradientPrices(8, 4).sample_terms(
            subject, lambda _, batches=batches: batches,
            PriceStore(tmp_path, dict(device=device))))
    assert found[0].shape[0] == 8 and found[1].any()
    assert found[0] == pytest.approx(found[1], rel=1e-2, abs=1e-4)


@WHERE
def test_prices_by_measurement(where: str, tmp_path: Path) -> None:
    found = []
    for device in (where, 'cpu'):
        mutator, space, batches = prepared(device, QuantMutator([4, 8]))
        subject = Subject(mutator.model, mutator.graph, space, mutator, None)
        found.append(MeasuredPrices(8, measure='distance')._compute(
            subject, lambda _, batches=batches: batches,
            PriceStore(tmp_path, dict(device=device))))
    rows = space.snap(np.outer([0.5, 0.75], space.highest))
    prices = [table.of_rows(rows) for table in found]
    assert prices[0] == pytest.approx(prices[1], rel=1e-2) and (prices[1] > 0).all()


class Called(ToyNetwork):
    """Is called as the models of OpenMMLab are."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return super().forward(inputs)


@WHERE
def test_learning_from_a_teacher(where: str) -> None:
    paths, batch = ['fc', 'predict'], images(where)[0]
    losses = []
    for device in (where, 'cpu'):
        student, teacher = Called(seed=1).train(), Called(seed=2)
        for model in (student, teacher):
            moved(model) if device == OTHER else model.to(device)
        term = DistillationTerm(student, teacher, paths, 1.0, 4.0)
        x = images(device)[0].inputs
        with outputs_watched(student, paths) as outputs:
            student(x)
        losses.append(term(outputs, x, []))
        losses[-1].backward()
        gradient_of = student.stem.weight.grad
        assert gradient_of.device == x.device and gradient_of.cpu().any()
    assert batch.inputs.device == losses[0].device
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-3)


@WHERE
def test_boxes_and_scores_of_a_teacher(where: str) -> None:
    def maps(seed: int, channels: int, device: str) -> list[Tensor]:
        found = torch.randn(2, channels, 4, 4, generator=torch.Generator(
            ).manual_seed(seed))
        return [There(found) if device == OTHER else found.to(device)]

    losses = []
    for device in (where, 'cpu'):
        student, target = ((maps(seed, 3, device), maps(seed + 1, 4, device))
                           for seed in (0, 10))
        for map_ in (*student[0], *student[1]):
            map_.requires_grad_()
        losses.append(detection_distance(student, target, 3, softmax=False))
        losses[-1].backward()
        assert student[0][0].grad.device == student[0][0].device
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-3)


@WHERE
def test_a_step_of_a_supernet(where: str) -> None:
    plain = Called().eval()
    graph = verify(plain, trace(plain, SHAPE))
    steps = []
    for device in (where, 'cpu'):
        model, batch = Called(), images(device)[0]
        moved(model) if device == OTHER else model.to(device)
        mutator = ChannelMutator('index', divisor=1)
        mutator.prepare(model.eval(), graph)
        stages = read_stages(model, ['stem', dict(modules=['fc'], loss='logits')],
                             SHAPE)
        supernet, recording = Supernet(model, graph, mutator, stages), Recording(stages)
        policy = Policy({unit.name: unit.width // 2 for unit in graph.units})
        model.train()
        with torch.no_grad(), recording.of(model):
            model(batch.inputs)
        with supernet.acting(policy):
            loss = sum(supernet.stage_loss(x, recording, policy) for x in stages)
            loss.backward()
        torch.optim.SGD(model.parameters(), 0.1).step()
        assert loss.device == batch.inputs.device
        steps.append((float(loss), model.fc.weight.detach().cpu()))
    assert steps[0][0] == pytest.approx(steps[1][0], rel=1e-3)
    torch.testing.assert_close(steps[0][1], steps[1][1], rtol=1e-3, atol=1e-4)


@WHERE
def test_distances_and_digests(where: str) -> None:
    model, batches = network(where), images(where)
    reference = REFERENCES['distance'](model, batches)
    assert reference.distance(model) == pytest.approx(0)
    assert weights_digest(model) == weights_digest(ToyNetwork())


@WHERE
def test_training_at_bits(where: str) -> None:
    """A step of quantisation-aware training, scales included."""
    mutator, space, batches = prepared(where, QuantMutator())
    slim = mutator.materialise(policy(space, 8)).train()
    loss = sum(x.square().mean() for x in slim(batches[0].inputs))
    loss.backward()
    torch.optim.SGD(slim.parameters(), 0.1).step()
    assert all(p.grad.device == p.device for p in slim.parameters()
               if p.grad is not None)


def test_the_device_catches_what_a_gpu_would() -> None:
    x = There(torch.ones(2, 2))
    for bad in (lambda: x + torch.ones(2, 2), lambda: x.numpy(),
                lambda: torch.cat([x, torch.ones(2, 2)])):
        with pytest.raises((RuntimeError, TypeError)):
            bad()
    assert isinstance(torch.zeros(2, device=x.device) + x, There)
    assert float((x + 1).cpu().sum()) == 8
