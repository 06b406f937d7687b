"""What tools/demo.py prints."""

import runpy
import subprocess
import sys

from command_lines import REPO, run_here

CHILD = """
print('noise')
print('Epoch(train) [1][1/2] loss 3')
print('Epoch(train) [1][2/2] loss 2')
"""


def test_help_is_help(tmp_path, capsys):
    assert run_here('demo', '--help', cwd=tmp_path).code == 0
    assert 'The whole job on a small example' in capsys.readouterr().out


def test_off_a_terminal_a_step_is_a_line(capsys):
    demo = runpy.run_path(str(REPO / 'tools/demo.py'))
    child = subprocess.Popen([sys.executable, '-c', CHILD], text=True,
                             stdout=subprocess.PIPE)
    assert len(demo['show'](child)) == 3 and child.wait() == 0
    line, = capsys.readouterr().out.splitlines()
    assert line.split(maxsplit=2)[1:] == ['s', 'Epoch(train) [1][2/2] loss 2']
