"""Real detectors learn from a teacher: the term, its gradient, two iterations."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from small_detectors import CLASSES, CONFIGS, small
from torch import nn

SIZE = 128  # FCOS, GFL and RetinaNet have one place on their coarsest level


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')
    torch.manual_seed(0)


@pytest.fixture(params=CONFIGS)
def name(request) -> str:
    return request.param


@pytest.fixture
def config(name, tmp_path) -> dict:
    """A student and its teacher: the same detector with other random weights."""
    architecture = small(name)
    teacher = MODELS.build(architecture)
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'dense.pth')
    return dict(
        type='mmcompress.Distilled', student=architecture, teacher=architecture,
        teacher_checkpoint=str(tmp_path / 'dense.pth'))


def batch() -> dict:
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(
        2, [[3, SIZE, SIZE]] * 2, num_classes=CLASSES, use_box_type=True)


def losses_of(model: nn.Module) -> dict:
    data = model.data_preprocessor(batch(), True)
    return model.loss(data['inputs'], data['data_samples'])


def head_of(model: nn.Module) -> nn.Module:
    return getattr(model, 'bbox_head', None) or model.rpn_head


def test_the_term_and_its_gradient(config):
    student = MODELS.build(config).train()
    term = losses_of(student)['loss_distill']
    assert term.isfinite() and term > 0
    term.backward()
    grads = {name: p.grad for name, p in student.named_parameters()
             if p.grad is not None}
    assert all(grad.isfinite().all() for grad in grads.values())
    for part in (student.backbone, student.neck, head_of(student)):
        assert any(p.grad is not None and p.grad.abs().sum() > 0
                   for p in part.parameters())


def test_two_iterations(config):
    student = MODELS.build(config).train()
    plain = MODELS.build(config['student'])
    assert student.state_dict().keys() == plain.state_dict().keys()
    before = copy.deepcopy(student.state_dict())
    optimiser = OptimWrapper(torch.optim.SGD(student.parameters(), 1e-5))
    for _ in range(2):
        told = student.train_step(batch(), optimiser)
        assert told['loss_distill'].isfinite() and told['loss_distill'] > 0
    after = student.state_dict()
    assert any(not torch.equal(after[k], v) for k, v in before.items() if 'head' in k)


@pytest.mark.parametrize('training', [False, True])
def test_a_perfect_student_has_nothing_to_learn(config, training):
    student = MODELS.build(config).eval()
    # Layers evaluate, as the teacher's do; some heads return other maps in training.
    head_of(student).training = training
    student.load_state_dict(torch.load(config['teacher_checkpoint'])['state_dict'])
    assert losses_of(student)['loss_distill'].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize('name', ['yolox'], indirect=True)
def test_the_teacher_stays_as_it_is(config):
    """Neither its weights nor its batch norms nor its mode, also of the head."""
    student = MODELS.build(config).train()
    first = losses_of(student)['loss_distill'].item()
    assert losses_of(student)['loss_distill'].item() == pytest.approx(first)


@pytest.mark.parametrize('name', ['yolox'], indirect=True)
def test_predictions_are_those_of_the_plain_model(config):
    student = MODELS.build(config).eval()
    plain = MODELS.build(config['student']).eval()
    plain.load_state_dict(student.state_dict())
    found, wanted = (model.test_step(batch())[0].pred_instances
                     for model in (student, plain))
    assert torch.equal(found.bboxes, wanted.bboxes)
