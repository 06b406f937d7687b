"""The console shows what a user can use; the log file has everything."""

import logging
import warnings

import pytest
from mmengine.logging import MMLogger

from mmcompress.openmmlab.console import calm


@pytest.fixture
def logged(tmp_path, capsys, request):
    """Log messages within :func:`calm`; returns the console's text and the file's."""

    def log(*messages: str, **options) -> tuple[str, str]:
        with calm():
            path = tmp_path / 'a.log'
            logger = MMLogger(request.node.name, log_file=str(path), log_level='INFO')
            for message in messages:
                logger.info(message, **options)
        return capsys.readouterr().out, path.read_text()

    yield log
    MMLogger._instance_dict.pop(request.node.name, None)


@pytest.mark.parametrize('message', [
    '\n' + '-' * 60 + '\nSystem environment:\n    sys.platform: linux',
    'Config:\na = 1',
    'Hooks will be executed in the following order:\nbefore_run:',
    'paramwise_options -- backbone.conv.bias:lr=0.1'])
def test_dumps_go_to_the_file_alone(logged, message):
    console, file = logged(message, 'Dense model: coco/bbox_mAP = 0.3')
    assert message.strip() in file and 'Dense model' in file
    assert message.strip().splitlines()[-1] not in console
    assert 'Dense model: coco/bbox_mAP = 0.3' in console


def test_records_can_be_for_the_file_alone(logged):
    console, file = logged('Search [1/2]', extra=dict(file_only=True))
    assert 'Search [1/2]' in file and 'Search' not in console


def test_what_libraries_print_is_dropped_and_all_else_is_kept(capsys):
    with calm():
        print('loading annotations into memory...')
        print('Done (t=0.09s)')
        print('creating index...', 'of books', sep='\n')
        print('| network | MACs |', end='')
        print('\n\nthe end', end='')
    assert capsys.readouterr().out == 'of books\n| network | MACs |\n\nthe end'


def test_warnings_of_others_are_dropped_and_ours_are_kept():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        with calm():
            for module in ('torch.functional', 'mmdet.evaluation', 'mmcompress.api'):
                warnings.warn_explicit('hm', UserWarning, f'{module}.py', 1, module)
    assert [str(w.filename) for w in seen] == ['mmcompress.api.py']


def test_a_logger_made_afterwards_says_everything(tmp_path, capsys):
    with calm():
        pass
    logger = MMLogger('after calm', log_level=logging.INFO)
    MMLogger._instance_dict.pop('after calm', None)
    logger.info('Config:\na = 1')
    assert 'a = 1' in capsys.readouterr().out
