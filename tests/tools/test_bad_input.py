"""Every mistake ends in one sentence that names it, and leaves nothing half-written."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from command_lines import Job, run_apart


def fails(tool, *args: object, cwd: Path) -> str:
    """The message of a tool that must fail, without a traceback."""
    ended = tool(*args, cwd=cwd)
    assert ended.code == 1 and ended.message, ended
    assert '\n\n' not in ended.message
    return ended.message


def products(folder: Path) -> list[str]:
    """Files of a work dir that are results."""
    return [str(p.relative_to(folder)) for p in folder.rglob('*')
            if p.suffix in ('.json', '.csv', '.png', '.html', '.pth', '.tmp')
            and 'vis_data' not in p.parts]


# Values of the wrong type or range: tests/faults/test_bad_inputs.py.
SEARCHES = {
    'unknown_cost': (['search_cfg.targets.mcas=0.5'],
                     r"Unknown cost 'mcas' in targets; known: .*bops, .*macs"),
    'unreachable': (['search_cfg.targets.macs=0.001'],
                    r'below the cheapest policy.*Attainable: \d+ \(0\.\d+ of dense\)'),
    'no_number': (['search_cfg.targets.macs=half'], 'not a positive number'),
    'metric': (['search_cfg.evaluator.metric=accuracy/top5'],
               "does not return 'accuracy/top5'; it returns 'accuracy/top1'"),
    'too_few': (['search_cfg.evaluator.images=490'],
                r'490 \+ 40 images are wanted.*but the dataset has 500'),
    'searcher': (['search_cfg.searcher.type=Evolutoin'],
                 r"no searcher 'Evolutoin'; known: Evolution.*Random"),
    'argument': (['search_cfg.searcher.evalutions=3'],
                 "unexpected keyword argument 'evalutions'; it takes .*evaluations"),
    'evaluator_argument': (['search_cfg.evaluator.image=3'],
                           "unexpected keyword argument 'image'; it takes metric"),
    'no_data': (['train_dataloader.dataset.data_root=/nowhere'],
                r'Cifar10Subset are missing.*/nowhere.*data_root'),
    'no_checkpoint': (['load_from=nowhere.pth'],
                      r"checkpoint 'nowhere.pth' cannot be loaded.*load_from"),
    'other_checkpoint': (['model.backbone.depth=14'],
                         r'does not fit ImageClassifier: \d+ tensors are missing'),
    'other_shapes': (['model.head.num_classes=7'],
                     r'does not fit ImageClassifier: \d+ tensors have another shape'),
    'input_shape': (['compression.input_shape=[32,32]'], r'\(C, H, W\)'),
    'model_type': (['model.backbone.type=ResNetX'], 'ResNetX is not in the'),
    'option': (['search_cfg.targets.macs.deep.er=1'], '--cfg-options does not fit'),
    'section': (['serach_cfg.targets.macs=0.5'], "Did you mean 'search_cfg'"),
    'mutator': (['compression.chanel.divisor=4'], "Did you mean 'channel'"),
}


@pytest.mark.parametrize('case', SEARCHES)
def test_search(case: str, tool, job: Job, tmp_path: Path) -> None:
    options, message = SEARCHES[case]
    found = fails(tool, 'search', job.config, '--work-dir', tmp_path, '--cfg-options',
                  *options, cwd=job.folder)
    assert re.search(message, found, re.DOTALL), found
    assert not products(tmp_path)


@pytest.mark.parametrize('mistake', [
    'searcher.evaluations=0', 'searcher.seed=-1', 'evaluator.images=0',
    'prices.images=0', 'stale_after=0'])
def test_a_mistaken_value_leaves_no_study(
        mistake: str, tool, job: Job, tmp_path: Path) -> None:
    fails(tool, 'search', job.config, '--work-dir', tmp_path, '--cfg-options',
          f'search_cfg.{mistake}', cwd=job.folder)
    assert not list(tmp_path.rglob('search.db'))


@pytest.mark.parametrize('text, message', [
    (None, 'There is no config file'),
    ('model = dict(\n', 'cannot be read: .*'),
    ("_base_ = 'nowhere.py'\n", 'cannot be read: .*nowhere.py'),
    ("_base_ = 'mmdet::nowhere/nowhere.py'\n", 'cannot be read: .*nowhere'),
    ("custom_imports = dict(imports=['no_such_module'])\n",
     'cannot be read: .*no_such_module'),
    ("model = dict(type='ImageClassifier')\n", 'has no search_cfg; see configs/'),
])
def test_config(text: str | None, message: str, tool, tmp_path: Path) -> None:
    config = tmp_path / 'mine.py'
    if text is not None:
        config.write_text(text)
    found = fails(tool, 'search', config, cwd=tmp_path)
    assert re.search(message, found, re.DOTALL), found
    assert not (tmp_path / 'work_dirs').exists()


def test_study_of_another_search(tool, job: Job, searched: Path) -> None:
    before = (searched / 'tradeoff.csv').read_text()
    found = fails(tool, 'search', job.config, '--work-dir', searched, '--cfg-options',
                  'search_cfg.targets.macs=[0.6]', cwd=job.folder)
    assert 'belongs to another search' in found and 'targets.macs' in found
    assert 'choose another work dir' in found
    assert (searched / 'tradeoff.csv').read_text() == before


def test_a_mistyped_metric_does_not_block_the_search(
        tool, job: Job, tmp_path: Path) -> None:
    search = ('search', job.config, '--work-dir', tmp_path, '--cfg-options',
              'search_cfg.searcher.evaluations=2')
    fails(tool, *search, 'search_cfg.evaluator.metric=top1', cwd=job.folder)
    assert tool(*search, cwd=job.folder).code == 0


def test_study_with_other_weights(tool, job: Job, searched: Path, tmp_path) -> None:
    options = ['search_cfg.searcher.evaluations=2', 'search_cfg.targets.macs=[0.6]']
    search = ('search', job.config, '--work-dir', tmp_path / 'a', '--cfg-options',
              *options)
    assert tool(*search, cwd=job.folder).code == 0
    # Trained again to the same path: the scores of the study are another model's.
    other = job.checkpoint.with_name('other.pth')
    ended = tool('train', job.config, '--work-dir', tmp_path / 'b', '--cfg-options',
                 'train_cfg.max_epochs=1', cwd=job.folder)
    assert ended.code == 0
    kept = job.checkpoint.rename(other)
    try:
        (tmp_path / 'b/epoch_1.pth').rename(job.checkpoint)
        assert 'made with other weights' in fails(tool, *search, cwd=job.folder)
    finally:
        kept.replace(job.checkpoint)


def test_the_checkpoint_may_move(tool, job: Job, tmp_path: Path) -> None:
    search = ('search', job.config, '--work-dir', tmp_path, '--cfg-options',
              'search_cfg.searcher.evaluations=2')
    assert tool(*search, cwd=job.folder).code == 0
    moved = tmp_path / 'moved.pth'
    moved.write_bytes(job.checkpoint.read_bytes())
    assert tool(*search, f'load_from={moved}', cwd=job.folder).code == 0


def test_checkpoints_that_are_empty_or_diverged(
        tool, job: Job, tmp_path: Path) -> None:
    def message() -> str:
        return fails(tool, 'search', job.config, '--work-dir', tmp_path / 'w',
                     '--cfg-options', f'load_from={path}', cwd=job.folder)

    path = tmp_path / 'mine.pth'
    path.touch()
    assert "mine.pth' cannot be loaded: it is empty or ends too early." in message()
    state = torch.load(job.checkpoint, weights_only=False)['state_dict']
    state['backbone.conv1.weight'][0] = torch.nan
    torch.save(state, path)
    assert '1 tensors of ImageClassifier hold NaN or infinity, e.g. backbone.conv1.' \
        in message()


def test_a_search_without_a_policy_for_a_target_fails(
        tool, job: Job, tmp_path: Path) -> None:
    search = ('search', job.config, '--work-dir', tmp_path, '--cfg-options')
    found = fails(tool, *search, 'search_cfg.searcher.evaluations=1', cwd=job.folder)
    assert ('The search found no policy for macs_0.5 in 1 evaluations, of which 0 '
            'failed (the log says why). Raise search_cfg.searcher.evaluations') in found
    assert (tmp_path / 'tradeoff.csv').exists()
    assert tool(*search, 'search_cfg.searcher.evaluations=2', cwd=job.folder).code == 0


@pytest.fixture
def edited(searched: Path, tmp_path: Path):
    """Write a changed copy of a policy file."""
    data = json.loads((searched / 'policies/macs_0.5.json').read_text())

    def edit(**changes: object) -> Path:
        path = tmp_path / 'policy.json'
        path.write_text(json.dumps({**data, **changes}))
        return path

    edit.data = data
    return edit


def test_policy(tool, job: Job, edited, tmp_path: Path) -> None:
    def message(path: Path) -> str:
        return fails(tool, 'test', job.config, job.checkpoint, '--policy', path,
                     '--work-dir', tmp_path / 'w', cwd=job.folder)

    widths = edited.data['widths']
    unit = next(iter(widths))
    assert 'There is no policy file' in message(tmp_path / 'nowhere.json')
    assert 'belongs to another model' in message(edited(fingerprint='0' * 16))
    assert "'nobody'" in message(edited(widths={**widths, 'nobody': 4}))
    assert unit in message(edited(widths={**widths, unit: 10_000}, channels={}))
    assert 'is not a policy file' in message(edited(format='other'))
    assert 'version 99' in message(edited(version=99))
    assert 'is damaged' in message(edited(channels=None))


def test_policy_of_another_model(tool, job: Job, edited) -> None:
    found = fails(tool, 'train', job.config, '--policy', edited(), '--cfg-options',
                  'model.backbone.depth=14', cwd=job.folder)
    assert 'belongs to another model' in found


def test_fine_tuning_needs_weights_that_fit(
        tool, job: Job, searched: Path, tmp_path: Path) -> None:
    policy = searched / 'policies/macs_0.5.json'
    wrong = searched / 'policies/macs_0.75.pth'
    found = fails(tool, 'train', job.config, '--policy', policy, '--checkpoint', wrong,
                  '--work-dir', tmp_path, cwd=job.folder)
    assert 'Load the checkpoint of the dense model or the one that belongs' in found
    assert not products(tmp_path)


@pytest.mark.parametrize('name, option', [
    ('train', 'train_dataloader'), ('test', 'test_dataloader')])
def test_missing_data(name: str, option: str, tool, job: Job, tmp_path) -> None:
    checkpoint = [job.checkpoint] if name == 'test' else []
    found = fails(tool, name, job.config, *checkpoint, '--work-dir', tmp_path,
                  '--cfg-options', f'{option}.dataset.data_root=/nowhere',
                  cwd=job.folder)
    assert '/nowhere' in found and 'data_root' in found


def test_distilling_needs_a_teacher(tool, job: Job, searched: Path) -> None:
    found = fails(tool, 'train', job.config, '--policy',
                  searched / 'policies/macs_0.5.json', '--distill', '--cfg-options',
                  'load_from=None', cwd=job.folder)
    assert '--distill needs the weights of the dense model' in found


@pytest.mark.slow
def test_nan_is_recorded_and_not_ranked(
        job: Job, tmp_path: Path, monkeypatch) -> None:
    """A metric that is not a number for every third policy."""
    (tmp_path / 'sometimes.py').write_text('''
from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy
calls = 0
@METRICS.register_module()
class Sometimes(Accuracy):
    def compute_metrics(self, results):
        global calls
        calls += 1
        good = super().compute_metrics(results)
        # The first call is the dense model's.
        return good if calls % 3 else {'top1': float('nan')}
''')
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = {str(job.config)!r}\n"
                      "custom_imports = dict(imports=['mmcompress', 'sometimes'])\n"
                      "search_cfg = dict(evaluator=dict(evaluator=dict("
                      "type='Sometimes', prefix='accuracy')))\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    monkeypatch.setenv('PYTHONPATH', path)
    done = run_apart('search', config, '--work-dir', tmp_path / 'w', cwd=job.folder)
    assert done.returncode == 0, done.stderr
    assert 'failed and is not ranked: accuracy/top1 is nan' in done.stdout
    outcome = json.loads((tmp_path / 'w/outcome.json').read_text())['tradeoff']
    # 1 + 12 calls: numbers 3, 6, 9 and 12 are not numbers.
    assert outcome['failures'] == 4 and len(outcome['points']) == 8
