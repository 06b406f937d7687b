"""The report in a real browser: headless Chromium, where one is installed."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from mmcompress.report import write_all

NAMES = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome',
         'chrome')
PROBE = """
<script>
const frame = document.querySelector('iframe');
frame.addEventListener('load', () => {
  const w = frame.contentWindow, d = frame.contentDocument, found = {};
  w.onerror = message => { found.error = message; };
  const all = s => [...d.querySelectorAll(s)], one = s => d.querySelector(s);
  found.overflow = d.documentElement.scrollWidth - w.innerWidth;
  found.width = w.innerWidth;
  const font = e => parseFloat(w.getComputedStyle(e).fontSize);
  const svg = one('svg'), scale = svg.getBoundingClientRect().width / 900;
  found.plotFont = Math.min(...all('svg text').map(e => font(e) * scale));
  found.tableFont = Math.min(...all('td').map(font));
  found.headings = all('h2').map(e => e.textContent);
  const slider = one('#budget'), output = one('.slider output');
  const slide = v => { slider.value = v; slider.dispatchEvent(new w.Event('input'));
    return output.textContent + ' | ' + (one('pre.further')
      ? one('pre.further').textContent : ''); };
  found.slid = [slide(0), slide(1000)];
  const button = all('nav button')[1];
  button.click();
  found.shown = all('svg g[data-cost]:not([hidden])').map(e => e.dataset.cost);
  found.other = slide(1000);
  const score = all('table.sortable th button').find(b => b.textContent === 'score');
  score.click(); score.click();
  found.order = [...one('table.sortable').tBodies[0].rows].map(
    r => r.cells[0].textContent);
  const circle = one('.dots circle');
  circle.dispatchEvent(new w.PointerEvent('pointermove', {bubbles: true}));
  found.tip = one('#tip').textContent;
  const out = document.createElement('pre');
  out.id = 'found'; out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>"""


@pytest.fixture(scope='module')
def browser() -> str:
    """Path of a Chromium."""
    wanted = os.environ.get('MMCOMPRESS_BROWSER', '')
    found = next((p for n in (wanted, *NAMES) if n and (p := shutil.which(n))), None)
    if found is None:
        pytest.skip(f'no headless Chromium ({", ".join(NAMES)}); '
                    'set MMCOMPRESS_BROWSER to one')
    return found


def look(browser: str, report: Path, width: int) -> dict:
    """What a page says about itself when it is that many pixels wide."""
    wrapper = report.with_name('wrapper.html')
    # Opened in a frame: a browser's own window may not be that narrow.
    wrapper.write_text(f'<body style="margin:0"><iframe src="{report.name}" '
                       f'style="width:{width}px;height:844px;border:0"></iframe>{PROBE}')
    done = subprocess.run(
        [browser, '--headless', '--no-sandbox', '--disable-gpu',
         f'--user-data-dir={report.parent / "profile"}', '--virtual-time-budget=5000',
         '--allow-file-access-from-files', '--window-size=1300,900', '--dump-dom',
         wrapper.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize('width', [390, 1200])
def test_report_in_a_browser(browser, outcome, tmp_path, width):
    outcome = replace(outcome, facts={**outcome.facts, 'config': 'my_search.py'})
    found = look(browser, write_all(outcome, tmp_path)['report.html'], width)
    assert 'error' not in found
    assert found['width'] == width and found['overflow'] <= 0
    assert found['plotFont'] >= 7.5 and found['tableFont'] >= 12
    assert found['headings'][0] == 'Trade-off' and found['headings'][-1] == 'Facts'
    # Costs are 480 to 900 of 1,000 MACs; number 0 is the cheapest, 2 the best.
    least, most = found['slid']
    assert least == (
        'MACs ≤ 48.0 %: policy 0, score 0.2000, 480 | '
        'mmcompress search my_search.py --target macs=0.48')
    assert most.startswith('MACs ≤ 90.0 %: policy 2, score 0.3333, 900 | ')
    assert found['shown'] == ['params', 'params']
    assert found['other'].startswith('Parameters ≤ 90.0 %: policy 2')
    assert found['order'] == ['dense', 'macs_0.75', 'macs_0.5', 'macs_0.1']
    assert found['tip'].startswith('policy 0\nscore 0.2000\nMACs 480 (48.0 % of dense)')
