'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const tip = document.getElementById('tip');
const byNumber = new Map(data.points.map(p => [p[0], p]));

function cost(name, v) {
  if (v === null) return '-';
  if (name.endsWith('_ms')) return v.toPrecision(3) + ' ms';
  let step = 0;
  while (Math.abs(v) >= 999.5 && step < 6) { v /= 1000; step++; }
  const unit = ['', 'k', 'M', 'G', 'T', 'P', 'E'][step];
  const digits = step ? v.toPrecision(3) : +v.toPrecision(4);
  return (digits + ' ' + unit + (name.endsWith('_bytes') ? 'B' : '')).trim();
}
function describe(n) {
  const p = byNumber.get(n);
  const lines = ['policy ' + n, 'score ' + p[1].toFixed(data.decimals)];
  data.costs.forEach((c, i) => {
    const v = p[2 + i], d = data.dense[i];
    if (v === null) return;
    const share = d ? ' (' + (100 * v / d).toFixed(1) + ' % of dense)' : '';
    lines.push(data.labels[i] + ' ' + cost(c, v) + share);
  });
  return lines.join('\n');
}
function place(e) {
  const x = e.clientX + 14, y = e.clientY + 14, w = tip.offsetWidth,
    h = tip.offsetHeight;
  tip.style.left = Math.max(4, x + w > innerWidth - 8 ? e.clientX - w - 10 : x) + 'px';
  tip.style.top = Math.max(4, y + h > innerHeight - 8 ? e.clientY - h - 10 : y) + 'px';
}
document.addEventListener('pointermove', e => {
  const at = e.target.closest && e.target.closest('[data-tip],[data-n]');
  tip.hidden = !at;
  if (!at) return;
  const n = at.dataset.n;
  tip.textContent = n === undefined ? at.dataset.tip : describe(+n);
  place(e);
});

function show(name) {
  document.querySelectorAll('svg g[data-cost]').forEach(
    g => g.toggleAttribute('hidden', g.dataset.cost !== name));
  document.querySelectorAll('nav button').forEach(
    b => b.setAttribute('aria-pressed', b.dataset.show === name));
  const i = data.costs.indexOf(name), [low, high, start, end] = data.axes[name];
  const scale = data.dense[i] || 1;
  shown = name;
  document.querySelectorAll('.dots circle').forEach(c => {
    const v = byNumber.get(+c.dataset.n)[2 + i];
    c.toggleAttribute('hidden', v === null);
    if (v === null) return;
    c.setAttribute('cx', start + (v / scale - low) / (high - low) * (end - start));
  });
  if (slider) budget();
}
let shown = data.costs[0];
const slider = document.getElementById('budget');
function budget() {
  // The best evaluated policy within the budget; scores are higher if better.
  const i = data.costs.indexOf(shown), [low, high, start, end] = data.axes[shown];
  const scale = data.dense[i] || 1;
  const costs = data.points.map(p => p[2 + i]).filter(v => v !== null);
  const least = Math.min(...costs), most = Math.max(...costs);
  const limit = least + (most - least) * slider.value / 1000;
  const best = data.points.filter(p => p[2 + i] !== null && p[2 + i] <= limit + 1e-9 * most)
    .reduce((a, p) => a && (a[1] > p[1] || (a[1] === p[1] && a[2 + i] <= p[2 + i])) ? a : p, null);
  const share = data.dense[i] ? (100 * limit / scale).toFixed(1) + ' %' : cost(shown, limit);
  document.querySelector('.slider output').textContent = data.labels[i] + ' \u2264 ' +
    share + (best ? ': policy ' + best[0] + ', score ' + best[1].toFixed(data.decimals) +
    ', ' + cost(shown, best[2 + i]) : '');
  const ring = document.querySelector('svg .within');
  ring.toggleAttribute('hidden', !best);
  if (best) {
    const dot = document.querySelector('.dots circle[data-n="' + best[0] + '"]');
    ring.setAttribute('cx', dot.getAttribute('cx'));
    ring.setAttribute('cy', dot.getAttribute('cy'));
  }
  const further = document.querySelector('pre.further');
  if (!further) return;
  further.hidden = false;
  const value = shown.endsWith('_ms') || !data.dense[i] ? limit.toPrecision(4)
    : (Math.ceil(1e3 * limit / scale) / 1e3);
  further.textContent = further.dataset.command + ' ' + shown + '=' + value;
}
if (slider) {
  slider.value = 500;
  slider.addEventListener('input', budget);
  document.querySelector('.slider').hidden = false;
  budget();
}
document.querySelectorAll('nav button').forEach(
  b => b.addEventListener('click', () => show(b.dataset.show)));

document.querySelectorAll('table.sortable').forEach(table => {
  table.querySelectorAll('th button').forEach(button => {
    button.addEventListener('click', () => {
      const th = button.closest('th'), i = th.cellIndex, body = table.tBodies[0];
      const up = th.getAttribute('aria-sort') !== 'ascending';
      table.querySelectorAll('th').forEach(h => h.removeAttribute('aria-sort'));
      th.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const value = row => row.cells[i].dataset.v;
      [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b), m = parseFloat(x), n = parseFloat(y);
        if (x === '' || y === '') return (x === '') - (y === '');
        const order = isNaN(m) || isNaN(n) ? x.localeCompare(y) : m - n;
        return up ? order : -order;
      }).forEach(row => body.append(row));
    });
  });
});
