"""Fine-tuned, exported and timed networks join the table and the report."""

from dataclasses import replace

import pytest

from mmcompress.report import join_network, load_outcome, read_csv, write_all
from mmcompress.report.tables import tradeoff_table


@pytest.fixture
def work_dir(outcome, tmp_path):
    """A search's work dir, with networks made of its policies."""
    write_all(outcome, tmp_path / 'w')
    for name in ('finetune_macs_0.5/epoch_4.pth', 'slim.onnx', 'dense.onnx'):
        (tmp_path / 'w' / name).parent.mkdir(exist_ok=True)
        (tmp_path / 'w' / name).touch()
    return tmp_path / 'w'


def test_rows_of_networks(work_dir):
    tuned = work_dir / 'finetune_macs_0.5/epoch_4.pth'
    join_network(work_dir / 'slim.onnx', 'macs_0.5', new=True, bytes=1234)
    join_network(work_dir / 'dense.onnx', 'dense', new=True, bytes=5678)
    join_network(tuned, 'macs_0.5', test={'coco/bbox_mAP': 0.34, 'other': 1.0})
    join_network(work_dir / 'slim.onnx', test={'coco/bbox_mAP': 0.33})
    assert join_network(work_dir / 'slim.onnx', ms=2.5) == work_dir
    found = load_outcome(work_dir).tradeoff
    assert [r.target for r in found.rows] == ['dense', 'macs_0.75', 'macs_0.5',
                                              'macs_0.1']
    assert found.test_name == 'coco/bbox_mAP'
    rows = [(r.target, r.policy, r.size_bytes, r.latency_ms, r.test, r.score)
            for r in found.all_rows]
    # The policy of macs_0.5 is number 0: 480 MACs, 480 * 1.6 bytes.
    assert rows == [
        ('dense', None, 1600.0, None, None, 0.35),
        ('dense', 'dense.onnx', 5678, None, None, None),
        ('macs_0.75', 'macs_0.75.json', 700 * 1.6, None, None, 0.31),
        ('macs_0.5', 'macs_0.5.json', 480 * 1.6, None, None, 0.20),
        ('macs_0.5', 'slim.onnx', 1234, 2.5, 0.33, None),
        ('macs_0.5', 'finetune_macs_0.5/epoch_4.pth', 480 * 1.6, None, 0.34, None),
        ('macs_0.1', None, None, None, None, None)]
    assert read_csv(work_dir / 'tradeoff.csv') == found.all_rows
    html = (work_dir / 'report.html').read_text()
    assert 'slim.onnx' in html and 'finetune_macs_0.5/epoch_4.pth' in html
    assert '2.50 ms' in tradeoff_table(found).text()


def test_a_new_file_at_the_path_of_an_old_one(work_dir):
    path = work_dir / 'slim.onnx'
    join_network(path, 'macs_0.5', new=True, bytes=1234)
    join_network(path, ms=2.5)
    join_network(path, 'macs_0.75', new=True, bytes=99)
    row, = load_outcome(work_dir).tradeoff.networks
    assert (row.target, row.size_bytes, row.latency_ms) == ('macs_0.75', 99, None)


def test_what_the_search_wrote_itself_is_tested_in_its_own_row(work_dir):
    join_network(work_dir / 'policies/macs_0.5.pth', 'macs_0.5', test={'mAP': 0.3})
    found = load_outcome(work_dir).tradeoff
    assert found.row('macs_0.5').test == 0.3 and not found.networks


def test_networks_elsewhere_or_of_nothing_known_are_left_alone(work_dir, tmp_path):
    assert join_network(tmp_path / 'other.onnx', 'macs_0.5', bytes=1) is None
    assert join_network(work_dir / 'slim.onnx', ms=1.0) is None
    assert not (work_dir / 'networks.json').exists()


def test_a_search_that_goes_on_keeps_its_networks(work_dir, outcome):
    join_network(work_dir / 'slim.onnx', 'macs_0.5', new=True, bytes=1234)
    write_all(replace(outcome, facts={'model': 'Again'}), work_dir)
    assert [r.policy for r in load_outcome(work_dir).tradeoff.networks] == ['slim.onnx']
