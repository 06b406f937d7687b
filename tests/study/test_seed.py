"""The seed of a study: one for all who ask, and that of studies from before."""

import multiprocessing
from pathlib import Path

import optuna
import pytest

from mmcompress.study import Study
from mmcompress.study.seed import study_seed
from mmcompress.study.storage import open_storage

# Children are forked from a small server that has imported all: they start as one.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmcompress.study.seed'])
WORKERS = 4


@pytest.fixture(params=['sqlite', 'journal'])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new storage on disk."""
    return f'{request.param}:///{tmp_path}/search.db'


def test_every_later_run_gets_the_first_ones(url: str) -> None:
    seed = study_seed(url, 'search')
    assert 0 <= seed < 2 ** 31
    assert [study_seed(url, 'search') for _ in range(2)] == [seed] * 2


def test_every_study_has_its_own(url: str, tmp_path: Path) -> None:
    others = [(url, 'b'), (f'sqlite:///{tmp_path}/other.db', 'a')]
    # Equal by chance once in 700 million times.
    assert len({study_seed(*where) for where in [(url, 'a'), *others]}) == 3


def ask(url: str, barrier, answers) -> None:
    """Ask at the same time as the other workers."""
    barrier.wait(60)
    answers.put(study_seed(url, 'search'))


def test_workers_that_start_together_agree(url: str) -> None:
    barrier, answers = CONTEXT.Barrier(WORKERS), CONTEXT.Queue()
    workers = [CONTEXT.Process(target=ask, args=(url, barrier, answers))
               for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    seeds = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert seeds == [study_seed(url, 'search')] * WORKERS


def test_the_first_of_several_draws_counts(url: str) -> None:
    # What is left where two workers found nothing and then both drew.
    seed = study_seed(url, 'search')
    storage = open_storage(url)
    study = storage.get_study_id_from_name('search (seed)')
    storage.create_new_trial(study, template_trial=optuna.trial.create_trial(value=1.0))
    assert study_seed(url, 'search') == seed


def test_a_study_from_before_has_it_in_its_signature(url: str) -> None:
    Study(url, 'search', {'searcher': {'type': 'Random', 'seed': 2 ** 31 - 1}})
    assert study_seed(url, 'search') == 2 ** 31 - 1


def test_evaluations_keep_their_numbers(url: str) -> None:
    seed = study_seed(url, 'search')
    study = Study(url, 'search', {'searcher': {'seed': seed}})
    claim = study.claim(1)
    assert claim.number == 0
    assert open_storage(url).get_trial(claim.trial).number == 0
    study.release(claim)
    assert study_seed(url, 'search') == seed
