"""Timing files, and saying what is slower."""

from mmcompress.deploy.timing import Timing, blame, layer_times, time_files


def test_times_and_layers(detector_file):
    first, second = time_files(
        [detector_file.path] * 2, threads=1, repeats=6, warm_up=1)
    assert len(first.milliseconds) == len(second.milliseconds) == 6
    layers, others = layer_times(detector_file.path, threads=1, repeats=3)
    assert layers['backbone.stem.conv.conv'] > 0
    # Every conv of the network is known by its name, whatever the runtime fused.
    assert not any(kind.endswith('Conv') for kind in others)
    assert len(blame(detector_file.path, detector_file.path, 1, worst=2)) <= 2


def test_median_and_quartiles(tmp_path):
    timing = Timing(tmp_path, (1.0, 2.0, 3.0, 4.0, 100.0))
    assert timing.median == 3.0
    # Exclusive quartiles of five values: 1.5 and (4 + 100) / 2.
    assert timing.quartiles == (1.5, 52.0)
