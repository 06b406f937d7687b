"""Scores: on cached images, unrounded, of the policy and nothing else."""

import math

import mmcv.transforms
import pytest
import torch
from mmdet.evaluation.metrics import coco_metric
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.registry import METRICS, init_default_scope
from mmengine.structures import InstanceData

from mmcompress.errors import CompressionError, DataError
from mmcompress.graph import trace
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.datasets import DigitsOptions, make_digits
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.metrics import full_precision
from mmcompress.policy import Policy
from mmcompress.quiet import quiet
from mmcompress.registry import EVALUATORS
from mmcompress.testing import ToyNetwork

OPTIONS = DigitsOptions(images=dict(train=8, calibration=2, val=2), size=96)
SCORE = dict(value=1.0)


@METRICS.register_module(force=True)
class Constant(BaseMetric):
    """Returns what the test asks for, rounded."""

    def process(self, data_batch, data_samples):
        """Count the samples."""
        self.results += data_samples

    def compute_metrics(self, results):
        """A rounded number, a text, and how many samples there were."""
        print('| a table |')
        return dict(value=round(SCORE['value'], 3), text='x', count=len(results))


class Detector(BaseModel):
    """Predicts the ground truth; the toy network only takes part."""

    def __init__(self) -> None:
        super().__init__(dict(type='mmdet.DetDataPreprocessor'))
        self.network = ToyNetwork()
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """As a detector."""
        fine, coarse, logits = self.network(inputs / 255)
        if mode == 'loss':
            return dict(loss=logits.square().mean(), loss_fine=fine.mean())
        if mode == 'predict':
            self.seen.append((self.network.stem_bn.running_mean.clone(), logits))
            for sample in data_samples:
                truth = sample.gt_instances
                sample.pred_instances = InstanceData(
                    bboxes=truth.bboxes, labels=truth.labels,
                    scores=torch.ones(len(truth)))
            return data_samples
        return fine, coarse, logits


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp('digits') / 'set', OPTIONS)


@pytest.fixture
def config(folder) -> Config:
    init_default_scope('mmdet')
    names = dict(classes=tuple('0123456789'))

    def dataset(split: str, pipeline: list) -> dict:
        return dict(dataset=dict(
            type='CocoDataset', data_root=str(folder), metainfo=names,
            ann_file=f'annotations/{split}.json', data_prefix=dict(img=f'{split}/'),
            pipeline=pipeline))

    load = [dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]
    return Config(dict(
        train_dataloader=dataset('train', ['augmented']),
        test_dataloader=dataset('val', load),
        val_evaluator=dict(type='CocoMetric', metric='bbox',
                           ann_file=str(folder / 'annotations/val.json'))))


def prepared(config, **kwargs) -> tuple[DatasetEvaluator, ChannelMutator, Detector]:
    model = Detector()
    evaluator = DatasetEvaluator(**{**dict(
        metric='coco/bbox_mAP', images=5, calibration_images=3, batch_size=2,
    ), **kwargs})
    evaluator.prepare(model, config)
    mutator = ChannelMutator()
    mutator.prepare(model, trace(model, (3, 16, 16)))
    return evaluator, mutator, model


def test_a_coco_score_counts_the_scored_images_only(config):
    evaluator, mutator, model = prepared(config)
    score = evaluator.evaluate(Policy({'network.stem': 8}), mutator)
    # Perfect on the five of eight images that are scored.
    assert score.value == pytest.approx(1, abs=1e-9)
    assert score.metrics['coco/bbox_mAP_50'] == pytest.approx(1, abs=1e-9)
    assert score.seconds > 0
    assert not model.training
    assert evaluator.dataset_meta['classes'] == tuple('0123456789')
    assert evaluator.device == torch.device('cpu')


def test_images_are_decoded_once_and_disjoint(config, monkeypatch):
    reads = []
    transform = mmcv.transforms.LoadImageFromFile.transform
    monkeypatch.setattr(
        mmcv.transforms.LoadImageFromFile, 'transform',
        lambda self, results: (reads.append(results['img_path']),
                               transform(self, results))[1])
    evaluator, mutator, _ = prepared(config)
    assert len(reads) == len(set(reads)) == 5 + 3
    for width in (8, 4):
        evaluator.evaluate(Policy({'network.stem': width}), mutator)
    assert len(reads) == 8
    assert [len(b.inputs) for b in evaluator.scoring] == [2, 2, 1]
    paths = [{s.img_path for b in part for s in b.data_samples}
             for part in (evaluator.scoring, evaluator.calibration)]
    assert not paths[0] & paths[1] and all('train' in p for p in paths[0])


@pytest.mark.parametrize('mode', ['off', 'recalibrate', 'paired', 'batch'])
def test_the_policy_acts_while_it_is_scored_and_not_after(config, mode):
    evaluator, mutator, model = prepared(config, dynamic_bn=mode)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluator.evaluate(Policy({'network.stem': 6}), mutator)
    mean = model.seen[-1][0]
    assert mean.shape == (6,)
    assert torch.equal(mean, before['network.stem_bn.running_mean'][:6]) == (
        mode == 'off')
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    score = evaluator.evaluate(Policy({'network.stem': 6}), mutator)
    assert score.value == pytest.approx(1)


def test_scores_repeat_bit_for_bit_whatever_came_between(config):
    evaluator, mutator, model = prepared(config)
    evaluator.evaluate(Policy({'network.stem': 6}), mutator)
    first = model.seen[-1][1]
    evaluator.evaluate(Policy({'network.head': 6}), mutator)
    evaluator.evaluate(Policy({'network.stem': 6}), mutator)
    assert torch.equal(model.seen[-1][1], first)


def test_a_slim_model_is_recalibrated_on_the_same_images(config):
    evaluator, mutator, model = prepared(config)
    evaluator.evaluate(Policy(), mutator)
    wanted = model.seen[-1][0]
    evaluator.recalibrate(model)
    assert torch.equal(model.network.stem_bn.running_mean, wanted)


def test_evaluators_of_one_model_do_not_disturb_each_other(config):
    first, mutator, model = prepared(config, dynamic_bn='paired')
    policy = Policy({'network.stem': 6})
    first.evaluate(policy, mutator)
    wanted = model.seen[-1][0]
    other = DatasetEvaluator(  # of other calibration images
        'accuracy', images=5, calibration_images=1, dynamic_bn='paired', seed=1,
        evaluator=first.evaluator)
    other.prepare(model, config)
    first.evaluate(policy, mutator)
    assert torch.equal(model.seen[-1][0], wanted)


def test_losses_are_of_the_calibration_images(config):
    evaluator, _, model = prepared(config)
    losses = [loss() for loss in evaluator.losses()]
    assert len(losses) == len(evaluator.calibration) == 2
    batch = evaluator.calibration[0]
    parts = model(batch.inputs, mode='loss')
    assert torch.equal(losses[0], parts['loss'] + parts['loss_fine'])
    assert losses[0].requires_grad


# -- numbers as they are ---------------------------------------------------------
def constant(config, value: float, **kwargs) -> tuple[DatasetEvaluator, ChannelMutator]:
    SCORE['value'] = value
    return prepared(config, **{
        'metric': 'value', 'evaluator': dict(type='Constant'), **kwargs})[:2]


def test_scores_are_not_rounded(config):
    evaluator, mutator = constant(config, 0.36543)
    score = evaluator.evaluate(Policy(), mutator)
    assert score.value == 0.36543
    assert score.metrics == dict(value=0.36543, count=5)
    assert Constant().compute_metrics([]) == dict(value=0.365, text='x', count=0)


def test_lower_may_be_better(config):
    evaluator, mutator = constant(config, 2.5, rule='less')
    assert evaluator.evaluate(Policy(), mutator).value == -2.5


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_a_score_that_is_no_number_is_returned_as_such(config, value):
    evaluator, mutator = constant(config, value)
    # Whoever ranks must see it: the search records it as failed.
    score = evaluator.evaluate(Policy(), mutator)
    assert not math.isfinite(score.value)


def test_amp_scores_under_autocast(config):
    seen = []
    evaluator, mutator = constant(config, 1.0, amp=True)
    evaluator.model.network.stem.register_forward_hook(
        lambda module, args, out: seen.append(out.dtype))
    evaluator.evaluate(Policy(), mutator)
    assert seen[-1] == torch.bfloat16


def test_coco_map_is_unrounded_within_the_block_only():
    metric = coco_metric.CocoMetric.__new__(coco_metric.CocoMetric)
    evaluator = Evaluator([])
    evaluator.metrics = [metric]
    assert 'round' not in vars(coco_metric)
    with pytest.raises(KeyError), full_precision(evaluator):
        assert coco_metric.round(0.36543, 3) == 0.36543
        with full_precision(evaluator):  # a second one takes nothing away
            pass
        assert coco_metric.round(0.36543, 3) == 0.36543
        raise KeyError
    assert 'round' not in vars(coco_metric)


def test_tables_of_metrics_are_kept_out_of_the_log(capsys):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    with pytest.raises(KeyError), quiet(logger):
        print('hidden')
        assert not logger.isEnabledFor(20) and logger.isEnabledFor(40)
        raise KeyError
    print('shown')
    assert logger.level == level
    assert capsys.readouterr().out == 'shown\n'


# -- errors ----------------------------------------------------------------------
def test_unknown_metric_names_those_there_are(config):
    evaluator, mutator = constant(config, 1.0, metric='mAP')
    with pytest.raises(CompressionError, match=(
            r"does not return 'mAP'; it returns 'value', 'count'\. Set metric")):
        evaluator.evaluate(Policy(), mutator)


def test_no_metric_at_all_is_no_score(config, monkeypatch):
    """CocoMetric returns nothing where nothing was detected."""
    evaluator, mutator = constant(config, 1.0)
    monkeypatch.setattr(evaluator, 'measure', lambda model: {})
    assert math.isnan(evaluator.evaluate(Policy(), mutator).value)


def test_bad_options_and_missing_parts(config):
    with pytest.raises(CompressionError, match="one of 'greater', 'less', not 'more'"):
        DatasetEvaluator('value', rule='more')
    with pytest.raises(DataError, match=r'6 \+ 3 images are wanted'):
        prepared(config, images=6)
    config.pop('val_evaluator')
    with pytest.raises(CompressionError, match='has no val_evaluator; give the'):
        prepared(config)


def test_signature_tells_evaluators_apart():
    one = DatasetEvaluator('value')
    assert one.signature == DatasetEvaluator('value').signature
    for change in (dict(images=1), dict(calibration_images=1), dict(seed=1),
                   dict(dynamic_bn='off'), dict(rule='less'), dict(batch_size=1),
                   dict(amp=True), dict(metric='other'),
                   dict(dataset=dict(type='A')), dict(evaluator=dict(type='B'))):
        assert DatasetEvaluator(**{'metric': 'value', **change}).signature != \
            one.signature, change


def test_is_registered():
    built = EVALUATORS.build(dict(type='PolicyEvaluator', metric='value'))
    assert isinstance(built, DatasetEvaluator)
