"""Style sheet and script of the HTML report.

They are Python strings, not package data, so that an installed package can never
lack them.
"""

CSS = '''
:root{--bg:#f6f7f9;--card:#fff;--ink:#18202c;--dim:#5b6675;--line:#e3e7ec;
--track:#e8ecf1;--bar:#2563eb;--dot:#8a99ad;--best:#d9480f;--hover:#f1f5fb;
--low:#b7cdfb}
@media(prefers-color-scheme:dark){:root{--bg:#0f141b;--card:#171e27;--ink:#e6ebf2;
--dim:#94a1b2;--line:#2a3440;--track:#27313d;--bar:#5b93ff;--dot:#7d8da3;
--best:#ff9248;--hover:#1e2733;--low:#2f4f8f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:17px;margin:0 0 4px}
p{margin:0 0 14px}
.dim{color:var(--dim)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:20px 22px;margin-top:18px}
section>p{font-size:13.5px}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));
gap:14px 24px;margin:0}
dt{font-size:12px;color:var(--dim)}
dd{margin:0;font-weight:500;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;
font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;border-bottom:1px solid var(--line);text-align:right;
white-space:nowrap}
th{font-weight:600;font-size:12.5px;color:var(--dim);vertical-align:bottom}
th.t,td.t{text-align:left}
tbody tr:last-child td{border-bottom:0}
tbody tr:hover td{background:var(--hover)}
th button{all:unset;cursor:pointer;white-space:nowrap}
th button:hover{color:var(--ink)}
th button:focus-visible,nav button:focus-visible{outline:2px solid var(--bar);
outline-offset:2px;border-radius:3px}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
code,.unit{font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.unit{max-width:330px;overflow:hidden;text-overflow:ellipsis}
.units td{padding:3px 10px}
.units td.keep{min-width:140px}
.units tbody tr:nth-child(n) td{border-bottom-color:transparent}
.bar{display:flex;align-items:center;gap:8px}
.bar i{flex:1;height:11px;border-radius:2px;background:var(--track);overflow:hidden}
.bar i b{display:block;height:100%;background:var(--bar)}
.bar span{width:7.2ch;text-align:right;font-size:12px;color:var(--dim)}
.bits td.cell{padding:3px 6px;text-align:center}
nav{display:flex;gap:6px;flex-wrap:wrap;margin:10px 0 2px}
nav button{font:inherit;font-size:13px;padding:3px 11px;border-radius:6px;
border:1px solid var(--line);background:none;color:var(--dim);cursor:pointer}
nav button[aria-pressed=true]{background:var(--bar);border-color:var(--bar);
color:#fff}
@media(prefers-color-scheme:dark){nav button[aria-pressed=true]{color:#0b1220}}
svg{display:block;width:100%;height:auto;font:12px system-ui,sans-serif}
svg .grid{stroke:var(--line)}
svg text{fill:var(--dim)}
svg .mid{text-anchor:middle}svg .end{text-anchor:end}
svg .label{font-size:13px}
svg .budget{stroke:var(--best);stroke-dasharray:3 4;opacity:.55}
svg .budget-name{fill:var(--best);font-size:11px}
svg .front{fill:none;stroke:var(--bar);stroke-width:1.8}
svg .dots circle{fill:var(--dot);fill-opacity:.6}
svg .dots circle:hover{fill:var(--bar);fill-opacity:1}
svg .best{fill:var(--best);stroke:var(--card);stroke-width:2}
svg .best-name{fill:var(--best);font-weight:700}
svg .dense{fill:var(--ink);stroke:var(--card);stroke-width:1.5}
svg .dense-name{fill:var(--ink);font-weight:600}
[hidden]{display:none}
.key{display:flex;gap:18px;flex-wrap:wrap;font-size:12.5px;color:var(--dim);
margin-top:6px}
.key span::before{content:"";display:inline-block;width:9px;height:9px;
border-radius:50%;margin-right:6px;background:var(--dot)}
.key .k2::before{height:2px;width:16px;border-radius:0;vertical-align:4px;
background:var(--bar)}
.key .k3::before{background:var(--best)}
.key .k4::before{background:var(--ink);border-radius:0;transform:rotate(45deg)
scale(.85)}
summary{cursor:pointer;font-weight:600;font-size:14px}
details+details{margin-top:12px}
details ul{margin:8px 0 0;padding-left:20px;font-size:13.5px;columns:1}
#tip{position:fixed;z-index:9;pointer-events:none;max-width:460px;padding:8px 11px;
border-radius:6px;background:#10161e;color:#eef2f7;font-size:12.5px;line-height:1.45;
white-space:pre-line;overflow-wrap:anywhere;border:1px solid #39434f;
box-shadow:0 4px 18px rgba(0,0,0,.28)}
@media print{body{background:#fff}section{break-inside:avoid}nav{display:none}}
'''

SCRIPT = '''
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
  return digits + ' ' + unit + (name.endsWith('_bytes') ? 'B' : '');
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
  return lines.join('\\n');
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
  document.querySelectorAll('.dots circle').forEach(c => {
    const v = byNumber.get(+c.dataset.n)[2 + i];
    c.toggleAttribute('hidden', v === null);
    if (v === null) return;
    c.setAttribute('cx', start + (v / scale - low) / (high - low) * (end - start));
  });
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
'''
