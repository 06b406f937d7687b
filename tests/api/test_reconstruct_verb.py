"""The network of a policy file, repaired from a dense model and images."""

import pytest
import torch
from torch import nn

import mmcompress as mmc
from mmcompress.errors import DataError, StudyError
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile


class Net(nn.Module):
    """Convolutions with norms and a residual block."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 24, 3, padding=1)
        self.outer = nn.Conv2d(24, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = x + self.outer(self.inner(x).relu())
        return self.head(x.relu().mean((2, 3)))


def images(seed: int) -> torch.Tensor:
    patterns = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    shares = torch.randn(48, 4, generator=generator)
    return torch.einsum('np,pchw->nchw', shares, patterns)


def session_of(**settings):
    return mmc.prepare(
        Net(), images(0)[:1], calibration=images(1).split(16),
        channel=dict(divisor=4), **settings)


def searched(tmp_path, **settings):
    return mmc.search(session_of(**settings), 'Uniform', evaluations=1,
                      work_dir=tmp_path, macs=0.6)


@pytest.mark.parametrize('quant', [None, dict(bits=[8])])
def test_a_policy_file_and_a_dense_model_give_a_repaired_network(tmp_path, quant):
    searched(tmp_path, reconstruct=False, quant=quant)
    path, = (tmp_path / 'policies').glob('*.json')
    dense = Net().eval()
    before = {k: v.clone() for k, v in dense.state_dict().items()}
    slim = mmc.reconstruct(dense, path, images(2).split(16))
    assert all(torch.equal(v, before[k]) for k, v in dense.state_dict().items())
    sliced = mmc.load(tmp_path, model=Net())[path.stem].model
    assert {k: v.shape for k, v in slim.state_dict().items()} \
        == {k: v.shape for k, v in sliced.state_dict().items()}

    def error(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(images(3)) - dense(images(3))).square().mean())

    assert error(slim) < 0.5 * error(sliced)


def test_repair_is_on_where_widths_are_searched_unless_it_is_refused():
    assert session_of().mutator.repair is not None
    assert session_of(reconstruct=dict(ridge=0.1)).mutator.repair.ridge == 0.1
    assert session_of(reconstruct=False).mutator.repair is None
    assert mmc.prepare(Net(), images(0)[:1], calibration=[images(1)],
                       quant=dict(bits=[8])).mutator.repair is None
    # A supernet's channels have been trained to do without the others.
    assert mmc.prepare(Net(), images(0)[:1], calibration=[images(1)],
                       channel=dict(importance='index')).mutator.repair is None


def test_what_is_written_is_what_is_loaded(tmp_path):
    family = searched(tmp_path)
    name = next(iter(family))
    rebuilt = mmc.load(tmp_path, model=Net())[name].model
    with torch.no_grad():
        torch.testing.assert_close(
            family[name].model(images(3)), rebuilt(images(3)), atol=1e-5, rtol=1e-4)


def test_the_fitted_form_is_written_if_it_is_clearly_nearer_to_the_dense_network():
    session = session_of()
    policy = Policy({unit.name: unit.width // 2 for unit in session.graph.units})

    def distance(sequential: bool | None) -> float:
        with session.mutator.repair.writing(sequential):
            return session._reference.distance(session.materialise(policy))

    fitted, closed = distance(True), distance(False)
    assert fitted != closed
    assert distance(None) == (fitted if fitted < 0.9 * closed else closed)


def test_a_study_of_an_earlier_version_goes_on_without_repair(tmp_path):
    before = searched(tmp_path, reconstruct=False)
    path, = (tmp_path / 'policies').glob('*.json')
    policy = path.read_text()
    again = searched(tmp_path)  # the same script, with today's default
    assert list(again) == list(before)
    assert path.read_text() == policy
    with torch.no_grad():
        networks = [family[path.stem].model for family in (before, again)]
        assert all(map(torch.equal, *(net.parameters() for net in networks)))
    with pytest.raises(StudyError, match='reconstruct'):
        searched(tmp_path, reconstruct=True)


def test_images_are_needed(tmp_path):
    searched(tmp_path)
    path, = (tmp_path / 'policies').glob('*.json')
    with pytest.raises(DataError, match='give some without labels'):
        mmc.reconstruct(Net(), PolicyFile.load(path), [])
