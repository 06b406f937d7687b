"""What the golden runs call equal, and that they name what there is."""

import json
from pathlib import Path

import numpy as np
import pytest
from adapter import MODULES, find
from cases import CASES, CONFIGS, chosen
from comparing import RECORDED, compare_cases

CSV = 'target,policy,macs,score,seconds\nmacs_0.5,macs_0.5.json,100,{score},{seconds}\n'


def record(
    folder: Path, score: float = 0.25, width: int = 8, output: float = 1.0,
    seconds: float = 1.0, machine: str = 'here', number: float = 3,
) -> Path:
    """A recording of one case."""
    case = folder / 'search'
    case.mkdir(parents=True)
    (case / 'tradeoff.csv').write_text(CSV.format(score=score, seconds=seconds))
    (case / 'policy.json').write_text(json.dumps(
        dict(widths=dict(conv=width), facts=dict(seconds=seconds, number=number))))
    np.savez(case / 'outputs.npz', out=np.array([output, 0.5]), kept=np.arange(3))
    (case / 'run.log').write_text(f'{seconds}')
    (case / RECORDED).write_text(json.dumps(dict(machine=machine, seconds=seconds)))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return record(tmp_path / 'a')


def test_equal_but_for_times_and_rounding(base, tmp_path):
    other = record(tmp_path / 'b', seconds=2.0, output=1 + 5e-7)
    assert compare_cases(base, other, ['search']) == []


@pytest.mark.parametrize('change, told', [
    (dict(score=0.25000000001), 'search/tradeoff.csv[0] score: '
                                "'0.25' != '0.25000000001'"),
    (dict(width=9), 'search/policy.json widths conv: 8 != 9'),
    (dict(number=3.0), 'search/policy.json facts number: 3 != 3.0'),
    (dict(output=1 + 2e-6), 'search/outputs.npz out: differs by 2e-06'),
    (dict(output=float('nan')), 'search/outputs.npz out: not finite'),
    (dict(machine='there'), 'search: recorded on different machines'),
])
def test_a_change_is_told(base, tmp_path, change, told):
    [found] = compare_cases(base, record(tmp_path / 'b', **change), ['search'])
    assert found.startswith(told)


def test_order_of_keys_counts(base, tmp_path):
    other = record(tmp_path / 'b')
    path = other / 'search/policy.json'
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert compare_cases(base, other, ['search']) == [
        'search/policy.json: keys in another order']


def test_a_file_or_array_too_few_is_told(base, tmp_path):
    other = record(tmp_path / 'b')
    (other / 'search/tradeoff.csv').unlink()
    np.savez(other / 'search/outputs.npz', out=np.array([1, 0.5]))
    found = compare_cases(base, other, ['search'])
    assert found == [
        f'search/tradeoff.csv: only in {base / "search"}',
        "search/outputs.npz: keys only in the first ['kept'], only in the second []"]


def test_a_case_that_was_not_finished_is_told(base, tmp_path):
    other = record(tmp_path / 'b')
    (other / 'search' / RECORDED).unlink()
    assert compare_cases(base, other, ['search']) == [
        f'search: not recorded in {other}']


def test_cases_name_tools_and_configs_that_exist(repo):
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    places = dict(checkout=repo, golden=repo / 'tests/golden')
    for case in CASES:
        for command in case.commands:
            for argument in command:
                if argument.startswith(('{', CONFIGS)):
                    assert Path(argument.format(**places)).is_file(), argument


def test_an_unknown_case_is_an_error():
    with pytest.raises(SystemExit, match='No golden run'):
        chosen(['nothing'])


@pytest.mark.parametrize('name', MODULES)
def test_adapter_finds(name):
    assert find(name).__name__ == name
