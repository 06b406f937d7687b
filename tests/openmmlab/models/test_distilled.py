"""The distillation term teaches the student and nobody else."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional as F

from mmcompress.errors import CompressionError
from mmcompress.evaluation.distillation import softened_kl
from mmcompress.openmmlab.models.distilled import DistillationTerm


def architecture(width: int) -> dict:
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(2, 2, width)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=width))


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


@pytest.fixture
def teacher(tmp_path) -> nn.Module:
    model = MODELS.build(architecture(6)).eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'dense.pth')
    return model


@pytest.fixture
def config(teacher, tmp_path) -> dict:
    return dict(
        type='mmcompress.Distilled', student=architecture(3), teacher=architecture(6),
        teacher_checkpoint=str(tmp_path / 'dense.pth'))


def batch() -> tuple[torch.Tensor, list]:
    samples = [DataSample().set_gt_label(i % 5) for i in range(4)]
    return torch.randn(4, 3, 8, 8), samples


def test_the_student_keeps_its_keys(config):
    student = MODELS.build(config)
    plain = MODELS.build(config['student'])
    assert student.state_dict().keys() == plain.state_dict().keys()
    assert len(list(student.parameters())) == len(list(plain.parameters()))
    assert len(list(student.modules())) == len(list(plain.modules()))


def test_the_term_is_the_softened_divergence(config, teacher):
    student = MODELS.build(dict(config, weight=0.5, temperature=2.0)).eval()
    inputs, samples = batch()
    found = student(inputs, samples, mode='loss')
    mine, theirs = student(inputs) / 2, teacher(inputs) / 2
    p = theirs.softmax(1)
    divergence = (p * (theirs.log_softmax(1) - mine.log_softmax(1))).sum(1).mean()
    assert found['loss_distill'].item() == pytest.approx(
        0.5 * 2 * 2 * divergence.item(), rel=1e-4)
    assert found['loss'].item() == pytest.approx(F.cross_entropy(
        student(inputs), torch.tensor([0, 1, 2, 3])).item(), rel=1e-4)
    assert student.parse_losses(found)[0].item() == pytest.approx(
        (found['loss'] + found['loss_distill']).item())


def test_gradients_reach_the_student_only(config, monkeypatch):
    made = []
    init = DistillationTerm.__init__
    monkeypatch.setattr(DistillationTerm, '__init__', lambda self, *args: (
        made.append(self), init(self, *args))[1])
    student = MODELS.build(config).train()
    teacher, = (term.teacher for term in made)
    before = copy.deepcopy(teacher.state_dict())
    student(*batch(), mode='loss')['loss_distill'].backward()
    assert all(p.grad is not None for p in student.parameters())
    assert student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_a_perfect_student_has_nothing_to_learn(config, tmp_path):
    student = MODELS.build(dict(config, student=architecture(6))).eval()
    student.load_state_dict(torch.load(tmp_path / 'dense.pth')['state_dict'])
    loss = student(*batch(), mode='loss')['loss_distill']
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_other_modes_are_as_without(config):
    student = MODELS.build(config).eval()
    inputs, samples = batch()
    for _ in range(2):
        student(inputs)  # raw outputs, with gradients, between two losses
        assert student(inputs, samples, mode='predict')[0].pred_score.shape == (5,)
    losses = student(inputs, samples, mode='loss')
    assert losses.keys() == {'loss', 'loss_distill'}


def test_a_model_without_a_head(config):
    student = dict(config['student'], head=None)
    with pytest.raises(CompressionError, match=(
            r'^ImageClassifier has none of the heads head, bbox_head, rpn_head; name '
            r'the modules to compare in model.heads')):
        MODELS.build(dict(config, student=student))


def test_heads_can_be_named(config):
    student = MODELS.build(dict(config, heads=['head.fc'])).eval()
    assert student(*batch(), mode='loss')['loss_distill'] > 0


@MODELS.register_module()
class LooksTwice(ImageClassifier):
    """Calls its head for the image and for its mirror image."""

    def loss(self, inputs, data_samples):
        """The loss of the second call."""
        self.head(self.extract_feat(inputs))
        return super().loss(inputs.flip(-1), data_samples)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """Raw outputs of the image and of its mirror image."""
        if mode != 'tensor':
            return super().forward(inputs, data_samples, mode)
        return [self.head(self.extract_feat(x)) for x in (inputs, inputs.flip(-1))]


def twice(width: int) -> dict:
    return dict(architecture(width), type='mmengine.LooksTwice')


def test_every_call_of_a_head_counts(config):
    student = MODELS.build(dict(
        config, student=twice(3), teacher=twice(6))).eval()
    teacher = MODELS.build(twice(6)).eval()
    teacher.load_state_dict(torch.load(config['teacher_checkpoint'])['state_dict'])
    inputs, samples = batch()
    term = student(inputs, samples, mode='loss')['loss_distill'].item()
    found = [softened_kl(s, t).item() for s, t in zip(student(inputs), teacher(inputs))]
    assert found[0] != pytest.approx(found[1], rel=1e-3)
    assert term == pytest.approx(sum(found) / 2, rel=1e-4)


def test_other_numbers_of_calls(config):
    student = MODELS.build(dict(config, student=twice(3))).eval()
    with pytest.raises(CompressionError, match=(
            r"outputs of 'head' cannot be compared: in training it returns 2 time")):
        student(*batch(), mode='loss')


def test_parts_beside_the_student_are_its_own(config):
    student = MODELS.build(dict(config, backbone=dict(widths=(2, 3, 3)), neck={}))
    assert student.backbone.layer2[0].conv1.out_channels == 3
