"""SGD steps before a policy is scored."""

import copy
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmcompress.errors import CompressionError, DataError
from mmcompress.evaluation import Finetuning
from mmcompress.evaluation.finetune import seeded
from mmcompress.graph import trace
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.models.compressed import with_preprocessor
from mmcompress.openmmlab.training_images import training_batches
from mmcompress.policy import Policy, SearchSpace
from mmcompress.prices import Subject
from mmcompress.prices.gradient import GradientPrices

IMAGES = 60


@DATASETS.register_module()
class Numbered(BaseDataset):
    """Images of one grey value: their number. Bright ones are of class 1."""

    METAINFO = dict(classes=('dark', 'bright'))

    def load_data_list(self) -> list[dict]:
        """Images as arrays, so that nothing is read."""
        return [dict(img=np.full((8, 8, 3), i, np.uint8), img_shape=(8, 8),
                     gt_label=int(i >= IMAGES // 2)) for i in range(IMAGES)]


@pytest.fixture(scope='module')
def cfg():
    init_default_scope('mmpretrain')
    dataset = dict(type='Numbered', pipeline=[dict(type='PackInputs')])
    loader = dict(batch_size=10, num_workers=0, dataset=dataset)
    return Config(dict(
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(8, 8, 8)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=8)),
        data_preprocessor=dict(num_classes=2, mean=[0.0] * 3, std=[1.0] * 3),
        train_dataloader=loader, test_dataloader=loader,
        val_evaluator=dict(type='Accuracy', topk=(1,))))


def prepare(cfg, steps=6, **options):
    """An evaluator, its mutator and the model, with fresh weights."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(with_preprocessor(cfg.model, cfg.data_preprocessor))
    model.init_weights()
    model.backbone.conv1.weight.requires_grad_(False)
    evaluator = DatasetEvaluator(
        'accuracy/top1', images=20, calibration_images=10, batch_size=10,
        dynamic_bn='recalibrate',  # a network that has not been trained is no pair
        finetune=dict(steps=steps, batch_size=10, **options))
    evaluator.prepare(model, cfg)
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, trace(model, (3, 8, 8)))
    return evaluator, mutator, model


def half(mutator):
    return Policy({u.name: u.width // 2 for u in mutator.graph.units})


def test_the_model_is_restored_exactly(cfg):
    evaluator, mutator, model = prepare(cfg)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    attributes = [set(m.__dict__) for m in model.modules()]
    evaluator.evaluate(half(mutator), mutator)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags
    assert [m.training for m in model.modules()] == modes
    assert [set(m.__dict__) for m in model.modules()] == attributes


def test_same_steps_for_every_policy_whatever_was_scored_before(cfg):
    evaluator, mutator, _ = prepare(cfg)
    first = evaluator.evaluate(half(mutator), mutator)
    torch.rand(3)  # Nothing depends on the global generators.
    evaluator.evaluate(Policy(), mutator)
    assert evaluator.evaluate(half(mutator), mutator).value == first.value
    again, other, _ = prepare(cfg)
    assert again.evaluate(half(other), other).value == first.value


def test_training_helps_and_frozen_weights_stay(cfg):
    evaluator, mutator, model = prepare(cfg, steps=60, lr=0.05)
    seen = []
    measure = evaluator.measure
    evaluator.measure = lambda m: seen.append(m) or measure(m)
    trained = evaluator.evaluate(half(mutator), mutator).value
    slim = seen[0]
    assert slim is not model and not slim.training
    untouched = mutator.materialise(half(mutator)).state_dict()
    changed = {k for k, v in slim.state_dict().items()
               if not torch.equal(v, untouched[k])}
    assert 'backbone.conv1.weight' not in changed and 'head.fc.weight' in changed
    plain, other, _ = prepare(cfg, steps=0)
    assert trained > plain.evaluate(half(other), other).value + 20


def test_no_image_is_both_trained_and_scored_on(cfg):
    evaluator, _, _ = prepare(cfg)
    trained = {int(x) for b in evaluator.training for x in b.inputs[:, 0, 0, 0]}
    scored = {int(x) for b in evaluator.scoring for x in b.inputs[:, 0, 0, 0]}
    # Six batches of ten from the 40 images left: all of them.
    assert len(scored) == 20 and trained == set(range(IMAGES)) - scored


def test_images_that_a_wrapped_dataset_leaves_out(cfg):
    wrapped = Config(dict(train_dataloader=dict(dataset=dict(
        type='RepeatDataset', times=2, dataset=dict(
            cfg.train_dataloader.dataset, indices=list(range(30)))))))
    _, _, model = prepare(cfg)
    batches = training_batches(
        wrapped, model.data_preprocessor, Finetuning(steps=6, batch_size=10),
        held_out=[0, 1, 2], seed=0)
    trained = {int(x) for b in batches for x in b.inputs[:, 0, 0, 0]}
    assert trained == set(range(3, 30))


@pytest.fixture
def resized(cfg):
    """Images of 8 x 8 for tests, of 4 x 4 in training."""
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='Resize', scale=4))
    return cfg


def numbers(batches):
    return sorted(int(x) for b in batches for x in b.inputs[:, 0, 0, 0])


def test_augmentation_without_calibration_images_says_so(resized):
    _, mutator, model = prepare(resized, steps=0)
    evaluator = DatasetEvaluator(
        'accuracy/top1', images=20, calibration_images=0, batch_size=5, augment=True)
    evaluator.prepare(model, resized)
    with pytest.raises(DataError, match='calibration_images'):
        evaluator.evaluate(half(mutator), mutator)


def test_recalibration_on_augmented_calibration_images(resized):
    _, mutator, model = prepare(resized, steps=0)
    evaluator = DatasetEvaluator(
        'accuracy/top1', images=20, calibration_images=10, batch_size=5, augment=True)
    evaluator.prepare(model, resized)
    # The same ten images, but 4 x 4 as in training instead of 8 x 8.
    assert numbers(evaluator.recalibration) == numbers(evaluator.calibration)
    assert [b.inputs.shape[2:] for b in evaluator.recalibration] == [(4, 4)] * 2
    assert evaluator.calibration[0].inputs.shape[2:] == (8, 8)
    slim = mutator.materialise(half(mutator))
    evaluator.recalibrate(slim)
    (norm,) = [m for n, m in slim.named_modules() if n == 'backbone.bn1']
    assert norm.num_batches_tracked == 2
    assert evaluator.signature['augment']
    with pytest.raises(CompressionError, match='leave out the dataset'):
        DatasetEvaluator('loss', dataset=dict(type='Numbered'), augment=True)


def test_prices_of_augmented_images(resized, tmp_path):
    evaluator, mutator, model = prepare(resized, steps=0)
    graph = trace(model, (3, 8, 8))
    subject = Subject(model, graph, SearchSpace.from_graph(graph, divisor=1), mutator,
                      evaluator)
    load, _ = GradientPrices(30, 10, augment=True).open(subject, tmp_path)
    # All but the 20 scored and the 10 calibrated on; 20 of the 30 come first.
    first, rest = load(slice(0, 20)), load(slice(20, 30))
    assert [tuple(b.inputs.shape) for b in first] == [(10, 3, 4, 4)] * 2
    others = numbers([*evaluator.scoring, *evaluator.calibration])
    assert numbers(first + rest) == sorted(set(range(IMAGES)) - set(others))
    with pytest.raises(CompressionError, match='leave out the dataset'):
        GradientPrices(30, dataset=dict(type='Numbered'), augment=True).open(
            subject, tmp_path)


def test_exploding_loss_is_no_score(cfg):
    evaluator, mutator, _ = prepare(cfg, lr=1e30)
    assert np.isnan(evaluator.evaluate(half(mutator), mutator).value)


def test_the_loss_as_a_score(cfg):
    evaluator, mutator, model = prepare(cfg, steps=0)
    evaluator.metric, evaluator.mode = 'loss', 'off'
    score = DatasetEvaluator('loss', rule='greater')
    assert score.rule == 'less'
    # Two scoring batches of ten: the mean over images is that of the batches.
    losses = []
    with torch.no_grad():
        for batch in evaluator.scoring:
            logits = model(batch.inputs, mode='tensor')
            labels = torch.cat([s.gt_label for s in batch.data_samples])
            losses.append(float(torch.nn.functional.cross_entropy(logits, labels)))
    metrics = evaluator.evaluate(Policy(), mutator).metrics
    assert metrics['loss'] == pytest.approx(np.mean(losses), rel=1e-5)


def test_no_steps_change_nothing(cfg):
    evaluator, _, _ = prepare(cfg, steps=0)
    assert 'finetune' not in evaluator.signature
    evaluator, _, _ = prepare(cfg, steps=6)
    assert evaluator.signature['finetune']['steps'] == 6


def test_errors(cfg):
    with pytest.raises(CompressionError, match="no option 'step'"):
        Finetuning.read(dict(step=5))
    with pytest.raises(CompressionError, match='steps of finetune is a whole number'):
        Finetuning.read(dict(steps=-1))
    _, _, model = prepare(cfg)
    with pytest.raises(DataError, match='40 training images are left beside the 20'):
        training_batches(cfg, model.data_preprocessor, Finetuning(5, batch_size=41),
                         range(20), 0)
    with pytest.raises(DataError, match='train_dataloader'):
        training_batches(Config(), model.data_preprocessor, Finetuning(5), [], 0)


def test_global_generators_are_left_alone():
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    draws = []
    for _ in range(2):
        with seeded(3):
            draws.append((random.random(), np.random.rand(), float(torch.rand(1))))
    assert draws[0] == draws[1]
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])
