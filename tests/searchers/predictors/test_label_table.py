"""Label tables, and the predictors on real labels."""

import numpy as np
import pytest

from mmcompress.errors import PredictorError
from mmcompress.searchers.predictors import (
    Agreement,
    GPPredictor,
    MLPEnsemblePredictor,
    RidgePredictor,
    read_label_table,
)


def write(path, text):
    path.write_text(text)
    return path


def test_equal_bits_of_weights_and_activations(tmp_path):
    table = read_label_table(write(
        tmp_path / 't.csv', 'prune_0,bits_0,top1\n0.25,3,90.5\n0,5,91\n'))
    assert table.space.units == ('0',) and table.space.layers == ('0',)
    # The dense width is a choice, 1 - 0.25 of it another.
    assert table.space.choices == ((75, 100), (3, 5), (3, 5))
    assert table.rows.tolist() == [[75, 3, 3], [100, 5, 5]]
    assert table.scores.tolist() == [90.5, 91.0]


def test_another_network_with_bits_apart(tmp_path):
    table = read_label_table(write(
        tmp_path / 't.csv',
        'id,prune_2,prune_7,weight_bits_1,abits_1,weight_bits_3,map\n'
        '1,0.5,0.75,4,8,2,.31\n2,0.25,0.5,8,8,2,.35\n'), score='map', width=8)
    assert table.space.units == ('2', '7') and table.space.layers == ('1', '3')
    # Layer 3 has no activation bits: they stay in float.
    assert table.rows.tolist() == [[4, 2, 4, 2, 8, 32], [6, 4, 8, 2, 8, 32]]
    assert table.scores.tolist() == [0.31, 0.35]


@pytest.mark.parametrize('text, message', [
    ('top1\n1\n', 'no column prune_i'),
    ('prune_0,top1\n0.333,1\n', 'multiples'),
    ('prune_0,top1\n1.0,1\n', 'multiples'),
    ('prune_0,top1,top5\n0.5,1,2\n', 'which one is the score'),
    ('prune_0,top1\n0.5\n', 'unequal length|cannot be read'),
    ('prune_0,top1\n0.5,x\n', 'cannot be read'),
    ('prune_0,top1\n0.5,nan\n', 'not finite'),
    ('prune_0,top1\n', 'no rows'),
])
def test_bad_tables_are_refused(tmp_path, text, message):
    with pytest.raises(PredictorError, match=message):
        read_label_table(write(tmp_path / 't.csv', text))
    with pytest.raises(PredictorError, match='cannot be read'):
        read_label_table(tmp_path / 'none.csv')


@pytest.fixture(scope='module')
def real(shared_data):
    path = shared_data / 'seernet_resnet20' / 'policies.csv'
    if not path.is_file():
        pytest.skip(f'no labels at {path}')
    return read_label_table(path)


def reached(kind, table, labels, splits):
    """Mean Spearman on unseen labels; the last 40 of each split are unseen."""
    values = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(table))
        seen, unseen = order[:labels], order[-40:]
        predictor = kind(table.space)
        predictor.fit(table.rows[seen], table.scores[seen])
        mean, _ = predictor.predict(table.rows[unseen])
        values.append(Agreement.of(mean, table.scores[unseen]).spearman)
    return np.mean(values)


@pytest.mark.parametrize('kind, labels, splits, least', [
    (RidgePredictor, 360, 30, 0.91),
    (RidgePredictor, 200, 30, 0.88),
    (RidgePredictor, 100, 30, 0.86),
    (RidgePredictor, 50, 30, 0.75),
    (MLPEnsemblePredictor, 360, 1, 0.90),
    (GPPredictor, 360, 2, 0.92),
    (GPPredictor, 100, 5, 0.86),
    (GPPredictor, 50, 5, 0.75),
])
def test_real_labels(real, kind, labels, splits, least):
    assert len(real) == 400 and len(real.space.free) == 54
    assert reached(kind, real, labels, splits) >= least
