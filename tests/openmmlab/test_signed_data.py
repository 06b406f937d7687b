"""A study goes on with what its scores depend on, and with nothing else."""

import numpy as np
import pytest
from mmengine.config import Config

from mmcompress.errors import StudyError
from mmcompress.openmmlab.images import content_digest, without_places
from mmcompress.study.study import SIGNATURE
from mmcompress.testing.small_classifier import TwoClasses

SEARCH = dict(
    searcher=dict(type='Random', evaluations=2, seed=0), targets=dict(macs=[0.8]))
NORMALISED = dict(num_classes=2, mean=[9.0] * 3, std=[255.0] * 3)


@pytest.fixture
def make(make_loop, tmp_path):
    def made(**changes):
        loop = make_loop(tmp_path, **SEARCH)
        loop.runner.cfg.merge_from_dict(changes)
        return loop

    made().run()
    return made


@pytest.mark.parametrize('changes, name', [
    ({'train_dataloader.dataset.images': 90}, 'dataset.images'),
    ({'test_dataloader.dataset.pipeline': [dict(type='PackInputs', meta_keys=())]},
     'dataset.pipeline'),
    ({'model.data_preprocessor': NORMALISED}, 'preprocessor.mean'),
    ({'model.test_cfg': dict(score_thr=0.5)}, 'test_cfg'),
    ({'val_evaluator.thrs': 0.1}, 'metrics'),
])
def test_changed_data_are_refused(make, changes, name):
    with pytest.raises(StudyError, match=rf'differs in: evaluator\.data.*{name}'):
        make(**changes).prepare()


def test_other_images_of_the_same_name_are_refused(make, monkeypatch):
    load = TwoClasses.load_data_list

    def brighter(self):
        return [dict(info, img=info['img'] + 1) for info in load(self)]

    monkeypatch.setattr(TwoClasses, 'load_data_list', brighter)
    with pytest.raises(StudyError, match=r'evaluator\.data\.content'):
        make().prepare()


def test_what_scores_do_not_depend_on_may_change(make):
    search = make(**{
        'train_dataloader.dataset.data_root': 'elsewhere', 'load_from': 'moved.pth',
        'train_dataloader.batch_size': 3}).prepare()
    assert len(search.study.history()) == 2


def test_an_earlier_study_goes_on_under_its_own_rule(make):
    study = make().prepare().study
    signature = study.get_attr(SIGNATURE)
    del signature['evaluator']['data']  # nor was anything else signed of the data
    study.set_attr(SIGNATURE, dict(signature, checkpoint='where/it/was.pth'))
    assert len(make(**{'model.data_preprocessor': NORMALISED})
               .prepare().study.history()) == 2
    signature['evaluator']['dataset'] = dict(type='Another')
    study.set_attr(SIGNATURE, dict(signature, checkpoint=None))
    with pytest.raises(StudyError, match=r'differs in: evaluator\.dataset'):
        make().prepare()


class Files:
    """A dataset of one file in a folder."""

    def __init__(self, folder, **info) -> None:
        self.info = dict(img_path=str(folder / 'a.png'), **info)

    def get_data_info(self, number: int) -> dict:
        """As mmengine's."""
        return self.info


def test_content_is_that_of_files_and_annotations(tmp_path):
    for folder, data in (('a', b'1'), ('b', b'1'), ('c', b'2')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a.png').write_bytes(data)

    def of(folder: str, **info) -> str:
        return content_digest(Files(tmp_path / folder, **info), [0])

    known = of('a', boxes=[[1, 2]], img=np.zeros(3))
    assert of('b', boxes=[[1, 2]], img=np.zeros(3)) == known
    for other in (of('c', boxes=[[1, 2]], img=np.zeros(3)),
                  of('a', boxes=[[1, 3]], img=np.zeros(3)),
                  of('a', boxes=[[1, 2]], img=np.ones(3))):
        assert other != known
    assert of('nowhere') == of('neither')
    content_digest(object(), [0])  # a dataset that tells nothing


def test_places_are_left_out():
    settings = Config(dict(data=dict(
        type='A', data_root='/x', data_prefix=dict(img='y'),
        pipeline=[dict(type='B', backend_args=None, size=3)])))
    assert without_places(settings.data) == dict(
        type='A', pipeline=[dict(type='B', size=3)])
