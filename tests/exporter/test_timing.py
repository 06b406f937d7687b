"""Timing files, and saying what is slower."""

from threading import Barrier

import pytest

from mmcompress.errors import ExportError
from mmcompress.exporter import timing as timing_module
from mmcompress.exporter.timing import Timing, blame, layer_times, time_files


def test_times_and_layers(detector_file):
    first, second = time_files(
        [detector_file.path] * 2, threads=1, repeats=6, warm_up=1)
    assert len(first.milliseconds) == len(second.milliseconds) == 6
    layers, others = layer_times(detector_file.path, threads=1, repeats=3)
    assert layers['backbone.stem.conv.conv'] > 0
    # Every conv of the network is known by its name, whatever the runtime fused.
    assert not any(kind.endswith('Conv') for kind in others)
    assert len(blame(detector_file.path, detector_file.path, 1, worst=2)) <= 2


def test_several_runtimes(detector_file, monkeypatch):
    made = []

    def load(backend, path, threads):
        made.append((backend, path))
        return lambda *inputs: []

    monkeypatch.setattr(timing_module, 'load_runtime', load)
    path = detector_file.path
    found = time_files([path, path], ['onnxruntime', 'openvino'], repeats=3, warm_up=0)
    assert [x.backend for x in found] == ['onnxruntime'] * 2 + ['openvino'] * 2
    # In turns: every file in every runtime, then all of them again.
    assert [backend for backend, _ in made] == timing_module.ROUNDS * [
        'onnxruntime', 'onnxruntime', 'openvino', 'openvino']


def test_layers_in_openvino(detector_file):
    pytest.importorskip('openvino')
    layers, others = layer_times(
        detector_file.path, threads=1, repeats=3, backend='openvino')
    assert layers['backbone.stem.conv.conv'] > 0
    # Whatever it fuses with a layer is the layer's.
    assert 'Convolution' not in others


def test_median_and_quartiles(tmp_path):
    timing = Timing(tmp_path, (1.0, 2.0, 3.0, 4.0, 100.0))
    assert timing.median == 3.0
    # Exclusive quartiles of five values: 1.5 and (4 + 100) / 2.
    assert timing.quartiles == (1.5, 52.0)


def test_shares_are_compared_turn_by_turn(tmp_path):
    # The second turn was on a busy machine: 10 of 20 ms. The medians say 3 of 8.
    slow = Timing(tmp_path, (2.0, 8.0, 20.0), turns=(2.0, 20.0, 8.0))
    fast = Timing(tmp_path, (1.0, 3.0, 10.0), turns=(1.0, 10.0, 3.0))
    assert fast.share_of(slow) == 0.5


def test_streams_run_at_a_time(detector_file, monkeypatch):
    together = Barrier(2, timeout=60)  # breaks unless two calls wait at a time
    made = []

    class Waiting:
        def __init__(self):
            made.append(self)

        def __call__(self, *inputs):
            together.wait()
            return []

    monkeypatch.setattr(
        timing_module, 'load_runtime', lambda backend, path, threads: Waiting())
    found, = time_files([detector_file.path], repeats=4, warm_up=1, streams=2)
    assert len(made) == 2 * timing_module.ROUNDS
    assert len(found.milliseconds) == 2 * 4


def test_calls_per_second(tmp_path):
    # Two callers that wait 4 ms each: one call is done every 2 ms.
    assert Timing(tmp_path, (4.0, 4.0), streams=2).per_second == 500


@pytest.mark.parametrize('kwargs', [
    dict(streams=0), dict(repeats=2), dict(warm_up=-1)])
def test_impossible_timings_are_refused(detector_file, kwargs):
    with pytest.raises(ExportError, match='Cannot time'):
        time_files([detector_file.path], **kwargs)
