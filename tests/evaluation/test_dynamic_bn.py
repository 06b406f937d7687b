"""Dynamic BN: its modes, everything restored exactly."""

import pytest
import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.errors import CompressionError, DataError
from mmcompress.evaluation import dynamic_bn, recalibrate
from mmcompress.evaluation.dynamic_bn import pair
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy
from mmcompress.testing import ToyNetwork, toy_graph


class Normed(nn.Module):
    """A norm on the image itself, one that is frozen, a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(2)
        self.frozen = nn.BatchNorm2d(2, momentum=0.3).requires_grad_(False)
        self.plain = nn.BatchNorm2d(2, track_running_stats=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, mode='tensor'):
        """One map."""
        return self.dropout(self.plain(self.frozen(self.bn(x))))


@pytest.fixture
def model() -> Normed:
    model = Normed().eval()
    for norm in (model.bn, model.frozen):
        norm.running_mean.fill_(3)
        norm.running_var.fill_(2)
        norm.num_batches_tracked.fill_(7)
    return model


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [Batch(torch.randn(2, 2, 4, 4, generator=generator) * (i + 1) + i, [])
            for i in range(3)]


def state_of(model: nn.Module) -> tuple:
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    return ({k: v.clone() for k, v in model.state_dict().items()},
            [n.momentum for n in norms], [m.training for m in model.modules()],
            [p.requires_grad for p in model.parameters()])


def assert_same(model: nn.Module, before: tuple) -> None:
    state, *rest = state_of(model)
    assert all(torch.equal(v, before[0][k]) for k, v in state.items())
    assert rest == list(before[1:])


@pytest.mark.parametrize('mode', ['off', 'recalibrate', 'paired', 'batch'])
def test_everything_is_restored(model, mode):
    pair(model, batches())
    before = state_of(model)
    with dynamic_bn(model, mode, batches()):
        for batch in batches():
            model(batch.inputs)
        assert not model.dropout.training
    assert_same(model, before)
    with pytest.raises(KeyError), dynamic_bn(model, mode, batches()):
        model(batches()[0].inputs)
        raise KeyError
    assert_same(model, before)


def test_norms_that_were_training_train_again(model):
    model.bn.train()
    with dynamic_bn(model, 'recalibrate', batches()):
        assert not model.bn.training
    assert model.bn.training and not model.frozen.training


def test_recalibrated_statistics_are_averages_over_the_batches(model):
    images = [b.inputs for b in batches()]
    mean = torch.stack([x.mean((0, 2, 3)) for x in images]).mean(0)
    var = torch.stack([x.var((0, 2, 3)) for x in images]).mean(0)
    with dynamic_bn(model, 'recalibrate', batches()):
        assert torch.allclose(model.bn.running_mean, mean, rtol=1e-5, atol=1e-6)
        assert torch.allclose(model.bn.running_var, var, rtol=1e-5)
        assert model.bn.num_batches_tracked == 3
        # The frozen norm is recalibrated too; stale statistics would be wrong.
        assert model.frozen.running_mean.abs().max() < 0.1
        first, again = (model(images[0]) for _ in range(2))
        assert torch.equal(first, again)


def test_pairing_leaves_the_dense_model_as_it_is(model):
    before = state_of(model)
    pair(model, batches())
    assert_same(model, before)
    with dynamic_bn(model, 'paired', batches()):
        assert torch.allclose(model.bn.running_mean, torch.tensor(3.0))
        assert torch.allclose(model.bn.running_var, torch.tensor(2.0))


def test_paired_statistics_are_stored_ones_moved_as_the_images_move(model):
    # The dense model has 3 and 2 stored and saw means m and variances v of the images.
    # What doubles and shifts its inputs sees 2m + 1 and 4v, and gets
    # 3 + (2m + 1 - m) and (4v + e)(2 + e) / (v + e) - e, 8 with a small e.
    pair(model, batches())
    moved = [Batch(2 * b.inputs + 1, []) for b in batches()]
    mean = torch.stack([b.inputs.mean((0, 2, 3)) for b in batches()]).mean(0)
    with dynamic_bn(model, 'paired', moved):
        assert torch.allclose(model.bn.running_mean, 4 + mean, atol=1e-5)
        assert torch.allclose(model.bn.running_var, torch.tensor(8.0), rtol=1e-3)


def test_batch_mode_normalises_each_batch_by_itself(model):
    with dynamic_bn(model, 'batch'):
        for batch in batches():
            out = model.bn(batch.inputs)
            assert out.mean((0, 2, 3)).abs().max() < 1e-5
            assert torch.allclose(
                out.var((0, 2, 3), unbiased=False), torch.ones(2), atol=1e-4)


def test_off_uses_what_is_stored(model):
    with dynamic_bn(model, 'off'):
        out = model.bn(torch.full((1, 2, 1, 1), 3.0))
    assert out.abs().max() < 1e-5


def test_recalibrating_for_good(model):
    recalibrate(model, batches())
    assert model.bn.momentum == 0.1 and model.frozen.momentum == 0.3
    assert not model.bn.training and model.bn.num_batches_tracked == 3
    assert model.bn.running_mean.abs().max() < 3
    assert not any(m.training for m in model.modules())


def test_errors(model):
    before = state_of(model)
    with pytest.raises(CompressionError, match=(
            "Unknown dynamic_bn 'on'; choose one of off, recalibrate, paired")), \
            dynamic_bn(model, 'on'):
        pass
    with pytest.raises(DataError, match=(
            'recalibrated on calibration images; set calibration_images')), \
            dynamic_bn(model, 'recalibrate', []):
        pass
    with pytest.raises(CompressionError, match='set it in the evaluator as well'), \
            dynamic_bn(model, 'paired', batches()):
        pass
    assert_same(model, before)


def test_a_failing_forward_restores_too(model):
    before = state_of(model)
    wrong = [*batches(), Batch(torch.ones(1, 5, 2, 2), [])]
    with pytest.raises(RuntimeError), dynamic_bn(model, 'recalibrate', wrong):
        pass
    assert_same(model, before)


def test_models_without_norms_are_left_alone():
    with dynamic_bn(nn.Conv2d(2, 2, 1), 'recalibrate'):
        pass


@pytest.mark.parametrize('mode', ['recalibrate', 'paired', 'batch'])
def test_statistics_of_a_policy_stay_its_own(mode):
    class Model(ToyNetwork):
        def forward(self, x, mode='tensor'):
            return super().forward(x)

    model, mutator = Model().eval(), ChannelMutator()
    data = [Batch(torch.randn(4, 3, 16, 16), []) for _ in range(2)]
    pair(model, data)
    mutator.prepare(model, toy_graph())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    policy = Policy({'stem': 5, 'reduce': 2})
    with mutator.acting(policy), dynamic_bn(model, mode, data):
        model(data[0].inputs)
        assert model.stem_bn.running_mean.shape == (5,)
        # Behind removed channels: what stem_bn sees of these is as it was.
        assert not torch.equal(
            model.depth_bn.running_mean, before['depth_bn.running_mean'][:5])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_slim_copy_is_paired_as_the_model_that_acts():
    class Model(ToyNetwork):
        def forward(self, x, mode='tensor'):
            return super().forward(x)

    model, mutator = Model().eval(), ChannelMutator(importance='l2')
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # others than the images will give
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    data = [Batch(torch.randn(4, 3, 16, 16), []) for _ in range(2)]
    pair(model, data)
    mutator.prepare(model, toy_graph())
    policy = Policy({'stem': 5, 'reduce': 2})
    with mutator.acting(policy), dynamic_bn(model, 'paired', data), torch.no_grad():
        acted = model(data[0].inputs)
    slim = mutator.materialise(policy)
    recalibrate(slim, data, paired=True)
    with torch.no_grad():
        for small, full in zip(slim(data[0].inputs), acted):
            assert torch.allclose(small, full, rtol=1e-4, atol=1e-5)
    assert not any('calibration' in name for name in slim.state_dict())
