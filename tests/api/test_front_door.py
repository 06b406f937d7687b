"""Plain modules through the front door: no Runner, no config."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from without_openmmlab import run_blocked

import mmcompress as mmc
from mmcompress.errors import CompressionError, StudyError

IMAGES = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """Two convolutions with norms and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        x = F.relu(self.second(F.relu(self.norm(self.first(x)))))
        return self.fc(x.mean((2, 3)))


class Masked(Small):
    """Takes a mask by keyword, and returns a dictionary."""

    def forward(self, x: torch.Tensor, *, mask: torch.Tensor) -> dict:
        """Logits of masked images."""
        return dict(logits=super().forward(x * mask))


def prepared(model=None, **options):
    options = dict(
        dict(calibration=IMAGES.split(8), channel=dict(divisor=4)), **options)
    return mmc.prepare(model or Small().eval(), torch.zeros(1, 3, 16, 16), **options)


def macs(model: nn.Module) -> int:
    """MACs of :class:`Small` at 16 x 16, by hand from its layers."""
    first, second = model.first.out_channels, model.second.out_channels
    return 256 * 9 * (3 * first + first * second) + second * 10


def test_a_family_from_one_search(tmp_path):
    # What is written may be fitted once more, so this compares only slices.
    session = prepared(score=lambda net: -float(net(IMAGES).var()), score_name='v1',
                       reconstruct=False)
    family = mmc.search(session, macs=[0.75, 0.5], searcher='Random', evaluations=6,
                        work_dir=tmp_path)
    assert list(family) == ['macs_0.75', 'macs_0.5']
    for name, share in (('macs_0.75', 0.75), ('macs_0.5', 0.5)):
        member = family[name]
        assert type(member.model) is Small
        assert member.costs['macs'] == macs(member.model) <= share * macs(Small())
        # The dense norm statistics are those of training, so the slim network's score
        # is measured again in the same way.
        assert member.score == pytest.approx(
            -float(member.model.eval()(IMAGES).var()), rel=1e-4)
    assert {'report.html', 'tradeoff.csv', 'tradeoff.png', 'outcome.json'} <= {
        path.name for path in tmp_path.iterdir()}
    assert family.report()['report.html'].is_file()
    assert 'macs_0.5' in repr(family) and '<pre>' in family._repr_html_()
    assert 'channel units govern' in repr(session)
    with pytest.raises(KeyError, match=r'macs_0\.75, macs_0\.5'):
        family['macs_0.4']


def test_what_was_written_is_rebuilt_elsewhere(tmp_path):
    session = prepared(quant=dict(bits=[4, 8]))
    family = mmc.search(session, bops=0.05, searcher='Evolution', evaluations=4,
                        work_dir=tmp_path)
    ours = family['bops_0.05']
    assert any(not bits.is_float for bits in ours.policy.bits.values())
    theirs = mmc.load(tmp_path, model=Small())['bops_0.05']
    with torch.no_grad():
        assert torch.equal(ours.model(IMAGES), theirs.model(IMAGES))
    saved = theirs.save(tmp_path / 'elsewhere' / 'net.json')
    assert saved.is_file() and saved.with_suffix('.pth').is_file()
    with pytest.raises(CompressionError, match=r'has to end in \.json'):
        theirs.save(tmp_path / 'net.pth')


def test_the_same_call_continues_and_another_score_is_refused(tmp_path):
    calls = []

    def score(net: nn.Module) -> float:
        calls.append(net)
        return -float(net(IMAGES).var())

    def run(name: str, evaluations: int = 3):
        return mmc.search(
            prepared(score=score, score_name=name), macs=0.5, searcher='Random',
            evaluations=evaluations, work_dir=tmp_path)

    first, scored = run('v1'), len(calls)
    assert scored > 1  # the dense network and some policies
    again = run('v1')
    assert len(calls) == scored  # nothing is scored twice
    assert again['macs_0.5'].policy == first['macs_0.5'].policy
    with pytest.raises(StudyError, match='metric'):
        run('v2')


def test_unusual_forward_arguments(tmp_path):
    def batch(images):
        return dict(image=images, mask=torch.ones_like(images))

    options = dict(
        forward=lambda net, item: net(item['image'], mask=item['mask']))
    session = mmc.prepare(
        Masked().eval(), batch(torch.zeros(1, 3, 16, 16)),
        calibration=[batch(part) for part in IMAGES.split(4)], quant=dict(bits=[8]),
        channel=dict(divisor=4), **options)
    family = mmc.search(session, macs=0.6, searcher='TwoStage', evaluations=2,
                        work_dir=tmp_path)
    slim = family['macs_0.6'].model
    assert macs(slim) <= 0.6 * macs(Small())
    loaded = mmc.load(tmp_path, model=Masked(), inputs=batch(IMAGES[:1]), **options)
    with torch.no_grad():
        ones = torch.ones_like(IMAGES)
        assert torch.equal(loaded['macs_0.6'].model(IMAGES, mask=ones)['logits'],
                           slim(IMAGES, mask=ones)['logits'])


def test_a_loss_gives_gradient_prices_and_importance(tmp_path):
    labels = torch.arange(16) % 10
    session = mmc.prepare(
        Small().eval(), torch.zeros(1, 3, 16, 16), calibration=[(IMAGES, labels)],
        channel=dict(divisor=4, importance='taylor'),
        loss=lambda net, batch: F.cross_entropy(net(batch[0]), batch[1]),
        train=[(IMAGES, labels)], score_name='loss')
    assert session.price_source['type'] == 'GradientPrices'
    family = mmc.search(session, macs=0.5, searcher='TwoStage', evaluations=2,
                        work_dir=tmp_path)
    assert macs(family['macs_0.5'].model) <= 0.5 * macs(Small())
    assert list((tmp_path / 'prices').glob('*/terms_*.npy'))


@pytest.mark.parametrize('options, message', [
    (dict(score=lambda net: 0.0), 'needs a name'),
    (dict(score_name='top1-v1'), 'needs score='),
    (dict(channel=dict(importance='taylor', divisor=4)), 'has no loss'),
    (dict(quant=dict(bits=[9])), "bits of the mutator 'QuantMutator' .* not \\[9\\]")])
def test_mistakes_are_sentences(options, message):
    with pytest.raises(CompressionError, match=message):
        mmc.prepare(Small().eval(), torch.zeros(1, 3, 16, 16),
                    calibration=IMAGES.split(8), **options)


def test_a_search_needs_a_budget(tmp_path):
    with pytest.raises(CompressionError, match='needs a budget'):
        mmc.search(prepared(), work_dir=tmp_path)


def test_the_package_shows_its_verbs():
    assert [name for name in dir(mmc) if not name.startswith('_')] == [
        'Session', 'compress', 'export', 'load', 'prepare', 'reconstruct', 'search',
        'zoo']
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        mmc.nope  # noqa: B018


WITHOUT_OPENMMLAB = '''
import sys
import torch
import mmcompress as mmc
import torchvision

net = torchvision.models.resnet18(num_classes=10).eval()
images = torch.randn(8, 3, 32, 32)
session = mmc.prepare(
    net, torch.zeros(1, 3, 32, 32), calibration=images.split(4),
    quant=dict(bits=[4, 8]), channel=dict(divisor=16))
family = mmc.search(session, bops=0.03, searcher='Evolution', evaluations=2,
                    work_dir=sys.argv[1])
slim = mmc.load(sys.argv[1], torchvision.models.resnet18(num_classes=10))
with torch.no_grad():
    ours, theirs = (f['bops_0.03'].model(images) for f in (family, slim))
assert torch.equal(ours, theirs)
print('searched', len(family), 'of', len(session.graph.units))
'''


def test_resnet18_of_torchvision_without_openmmlab(tmp_path):
    assert 'searched 1 of 12' in run_blocked(WITHOUT_OPENMMLAB, tmp_path, cwd=tmp_path)
