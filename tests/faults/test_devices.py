"""What has to stay on one device, run on one that the CPU's tensors may not meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from other_device import Other, There, moved
from torch import Tensor, nn

from mmcompress.data.images import Batch
from mmcompress.evaluation.distance import REFERENCES
from mmcompress.evaluation.dynamic_bn import dynamic_bn, pair, recalibrate
from mmcompress.graph import trace, verify
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator, QuantMutator
from mmcompress.mutators.importance import channel_scores
from mmcompress.mutators.reconstruct import ReconstructMutator
from mmcompress.policy import Policy, SearchSpace
from mmcompress.prices import Subject
from mmcompress.prices.reconstruction import bit_errors, width_errors
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
