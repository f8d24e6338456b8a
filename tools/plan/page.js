(function () {
'use strict';

const find = id => document.getElementById(id);
const root = document.documentElement;

/* ---- Numbers, as the tool prints them: three significant digits */

function scaled(value, step, units) {
  let unit = 0;
  while (unit + 1 < units.length && value >= step) { value /= step; unit++; }
  const digits = unit === 0 && Number.isInteger(value) ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return value.toFixed(digits) + ' ' + units[unit];
}

const duration = ns => scaled(ns, 1000, ['ns', 'us', 'ms', 's']);

/* ---- The tip: what the pointer is on, or what has the focus */

const tip = find('tip');

function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 6)) + 'px';
  tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 12) : y + 18) + 'px';
}

function hideTip() { tip.hidden = true; }

document.addEventListener('pointermove', event => {
  if (event.target.id === 'timeline') return;
  const on = event.target.closest('[data-tip]');
  if (on) showTip(on.dataset.tip, event.clientX, event.clientY);
  else hideTip();
});
document.addEventListener('focusin', event => {
  const label = event.target.matches('.bar, .plot circle') && event.target.getAttribute('aria-label');
  if (!label || !event.target.matches(':focus-visible')) return;
  const box = event.target.getBoundingClientRect();
  showTip(label, box.left + 60, box.bottom - 12);
});
document.addEventListener('focusout', hideTip);
document.addEventListener('keydown', event => { if (event.key === 'Escape') hideTip(); });

/* ---- Tables: copied with exact numbers, apart by tabs */

function copyTable(button) {
  const rows = [...find(button.dataset.copies).rows].map(row => [...row.cells].map(cell => {
    const data = cell.querySelector('data');
    return data ? data.value : cell.textContent.trim();
  }).join('\t'));
  const done = () => {
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy table'; }, 1500);
  };
  if (navigator.clipboard) navigator.clipboard.writeText(rows.join('\n') + '\n').then(done, () => {});
}

for (const button of document.querySelectorAll('[data-copies]')) {
  button.hidden = !navigator.clipboard;
  button.addEventListener('click', () => copyTable(button));
}

/* ---- The timeline */

function timeline(data) {
  const canvas = find('timeline'), range = find('range'), context = canvas.getContext('2d');
  const step = data.step_ns, isFine = data.level === 'ops';
  const axis = 22, narrowest = Math.min(step, 1000);
  let from = 0, to = step, width = 0, density = 1, colours = {}, pitch = 0, tall = 0, strip = 0, gutter = 0;

  /* Blocks of a lane, six numbers each: kind, layer (or of a pass, what it is busy), micro-batch, chunk, idle time
   * before it, its time. */
  for (const row of data.rows)
    for (const lane of row.lanes) {
      const count = lane.blocks.length / 6;
      lane.starts = new Float64Array(count);
      lane.ends = new Float64Array(count);
      for (let i = 0, now = 0; i < count; i++) {
        lane.starts[i] = now += lane.blocks[6 * i + 4];
        lane.ends[i] = now += lane.blocks[6 * i + 5];
      }
    }

  /* Heights from the number of rows: the compute lane is tall, the others are strips under it. */
  function measure() {
    const strips = Math.max(...data.rows.map(row => row.lanes.filter(lane => lane.lane !== 0).length));
    const room = 760 / data.rows.length;
    tall = Math.max(7, Math.min(20, room * 0.55));
    strip = strips === 0 ? 0 : Math.max(2, Math.min(7, room * 0.4 / strips));
    pitch = tall + strips * strip + Math.max(2, Math.min(7, room * 0.12));
    canvas.dataset.height = Math.ceil(axis + data.rows.length * pitch);
  }

  function readColours() {
    const probe = document.createElement('i');
    canvas.parentNode.append(probe);
    for (const kind of data.kinds) {
      probe.className = kind[1];
      colours[kind[1]] = getComputedStyle(probe).backgroundColor;
    }
    probe.remove();
    for (const name of ['ink', 'soft', 'rule', 'track', 'page'])
      colours['-' + name] = getComputedStyle(root).getPropertyValue('--' + name).trim();
  }

  /* The lane's first block that ends after a time */
  function firstAfter(lane, moment) {
    let low = 0, high = lane.ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lane.ends[middle] <= moment) low = middle + 1; else high = middle;
    }
    return low;
  }

  const place = t => gutter + (t - from) / (to - from) * (width - gutter);
  const time = x => from + (x - gutter) / (width - gutter) * (to - from);

  function drawAxis(height) {
    const span = to - from, rough = span / Math.max(2, (width - gutter) / 110);
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    const every = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
    context.fillStyle = colours['-soft'];
    context.textBaseline = 'top';
    context.textAlign = 'left';
    for (let tick = Math.ceil(from / every) * every; tick <= to; tick += every) {
      const x = place(tick), unit = to >= 1e9 ? 9 : to >= 1e6 ? 6 : to >= 1e3 ? 3 : 0;
      const digits = Math.max(0, Math.min(9, unit - Math.floor(Math.log10(every) + 1e-9)));
      const label = (tick / Math.pow(10, unit)).toFixed(digits) + ' ' + ['ns', 'us', 'ms', 's'][unit / 3];
      context.fillRect(Math.round(x), axis - 5, 1, 5);
      if (x + context.measureText(label).width + 4 < width) context.fillText(label, x + 3, 2);
      context.globalAlpha = 0.12;
      context.fillRect(Math.round(x), axis, 1, height - axis);
      context.globalAlpha = 1;
    }
  }

  function drawWord(block, kind, x, end, y, tallness) {
    const word = isFine ? kind[0] : block >= 0 ? String(block) : '';
    if (tallness < 11 || end - x < 8 + 5.5 * word.length) return;
    context.fillStyle = colours['-page'];
    context.fillText(word, x + 3, y + tallness / 2 + 0.5);
  }

  function drawLane(lane, y, tallness) {
    const blocks = lane.blocks;
    let drawn = 0;
    context.textBaseline = 'middle';
    for (let i = firstAfter(lane, from); i < lane.starts.length && lane.starts[i] < to; i++, drawn++) {
      const kind = data.kinds[blocks[6 * i]];
      const x = Math.max(place(lane.starts[i]), gutter), end = Math.min(place(lane.ends[i]), width);
      const gap = end - x > 4 ? 1 : 0;
      context.fillStyle = colours[kind[1]];
      context.fillRect(x, y, Math.max(end - x - gap, 0.15), tallness);
      if (end - x > 12) drawWord(blocks[6 * i + 2], kind, x, end, y, tallness);
    }
    return drawn;
  }

  function drawRow(row, index) {
    const y = axis + index * pitch, every = Math.ceil(13 / pitch);
    let drawn = 0, strips = 0;
    context.fillStyle = colours['-track'];
    context.fillRect(gutter, y, width - gutter, tall);
    if (index % every === 0) {
      context.fillStyle = colours['-ink'];
      context.textBaseline = 'middle';
      context.fillText(row.name, 0, y + tall / 2 + 0.5);
    }
    for (const lane of row.lanes) {
      if (lane.lane === 0) drawn += drawLane(lane, y, tall);
      else drawn += drawLane(lane, y + tall + strips++ * strip + 0.5, strip - 0.5);
    }
    return drawn;
  }

  function draw() {
    const height = Number(canvas.dataset.height);
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = '11px ' + getComputedStyle(document.body).fontFamily;
    context.textAlign = 'left';
    let drawn = 0;
    data.rows.forEach((row, index) => { drawn += drawRow(row, index); });
    drawAxis(height);
    range.textContent = duration(from) + ' to ' + duration(to) + ' of ' + duration(step) + ', ' + drawn +
      (isFine ? ' ops' : ' blocks');
  }

  function resize() {
    width = canvas.clientWidth;
    gutter = width < 600 ? 58 : 70;
    density = window.devicePixelRatio || 1;
    canvas.style.height = canvas.dataset.height + 'px';
    draw();
  }

  let isAsked = false;
  function show(start, end) {
    const span = Math.max(narrowest, Math.min(step, end - start));
    from = Math.max(0, Math.min(step - span, start));
    to = from + span;
    if (isAsked) return;
    isAsked = true;
    setTimeout(() => { isAsked = false; draw(); }, 10);
  }

  function zoom(factor, centre) {
    show(centre - (centre - from) * factor, centre + (to - centre) * factor);
  }

  /* How long a pipeline fills, about: some blocks of the last row, and the way back */
  function fill() {
    const last = data.rows[data.rows.length - 1].lanes[0];
    return Math.min(step, Math.max(step / 20, 3.5 * (last && last.ends.length > 3 ? last.ends[3] : 0)));
  }

  const acts = {
    all: () => show(0, step), begin: () => show(0, fill()), end: () => show(step - fill(), step),
    in: () => zoom(0.5, (from + to) / 2), out: () => zoom(2, (from + to) / 2),
    left: () => show(from - (to - from) / 4, to - (to - from) / 4),
    right: () => show(from + (to - from) / 4, to + (to - from) / 4)
  };
  const keys = { '+': 'in', '=': 'in', '-': 'out', '0': 'all', Home: 'begin', End: 'end', ArrowLeft: 'left',
    ArrowRight: 'right' };

  for (const button of document.querySelectorAll('[data-act]'))
    button.addEventListener('click', () => acts[button.dataset.act]());
  canvas.addEventListener('keydown', event => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    acts[keys[event.key]]();
  });
  canvas.addEventListener('wheel', event => {
    const isZoom = event.ctrlKey || event.metaKey;
    if (!isZoom && Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return;
    event.preventDefault();
    const by = event.deltaX / (width - gutter) * (to - from);
    if (isZoom) zoom(Math.exp(event.deltaY * 0.004), time(Math.max(gutter, event.offsetX)));
    else show(from + by, to + by);
  }, { passive: false });
  canvas.addEventListener('dblclick', event => zoom(0.25, time(Math.max(gutter, event.offsetX))));

  /* What is under the pointer: a row, its lane, the block at that time */
  function describe(x, y) {
    const row = data.rows[Math.floor((y - axis) / pitch)], inside = (y - axis) % pitch;
    if (!row || y < axis || x < gutter) return null;
    const others = row.lanes.filter(lane => lane.lane !== 0);
    const isTall = inside < tall;
    const lane = isTall ? row.lanes.find(l => l.lane === 0) : others[Math.floor((inside - tall) / strip)];
    if (!lane) return null;
    const now = time(x), slack = (to - from) / (width - gutter);
    const i = firstAfter(lane, now - slack);
    const head = row.name + ' (rank ' + row.rank + '), lane ' + data.lanes[lane.lane];
    if (i === lane.starts.length || lane.starts[i] > now + slack) return head + '\nidle at ' + duration(now);
    const [kind, more, microBatch, chunk] = lane.blocks.slice(6 * i, 6 * i + 4);
    return head + '\n' + data.kinds[kind][0] + (microBatch >= 0 ? ', micro-batch ' + microBatch : '') +
      (isFine && more >= 0 ? ', layer ' + more : '') + (chunk >= 0 && data.chunks > 1 ? ', chunk ' + chunk : '') +
      '\nstarts at ' + duration(lane.starts[i]) + ', takes ' + duration(lane.ends[i] - lane.starts[i]) +
      (isFine ? '' : ', of which it is busy ' + duration(more));
  }

  let held = null;
  canvas.addEventListener('pointerdown', event => {
    if (event.button !== 0) return;
    held = { x: event.clientX, from, to };
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add('held');
  });
  canvas.addEventListener('pointermove', event => {
    if (held) {
      const by = (held.x - event.clientX) / (width - gutter) * (held.to - held.from);
      hideTip();
      show(held.from + by, held.to + by);
      return;
    }
    const text = describe(event.offsetX, event.offsetY);
    if (text) showTip(text, event.clientX, event.clientY);
    else hideTip();
  });
  const release = () => { held = null; canvas.classList.remove('held'); };
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', release);
  canvas.addEventListener('pointerleave', hideTip);

  function redraw() {
    readColours();
    resize();
  }

  measure();
  redraw();
  addEventListener('resize', resize);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  return { redraw, print: () => {
    readColours();
    width = 760;
    density = 3;
    canvas.style.height = 'auto';
    draw();
  } };
}

const text = find('timeline-data');
const drawing = text && timeline(JSON.parse(text.textContent));

/* ---- Paper: light, with all tables open */

let closed = [];
addEventListener('beforeprint', () => {
  closed = [...document.querySelectorAll('details:not([open])')];
  for (const details of closed) details.open = true;
  root.classList.add('light');
  if (drawing) drawing.print();
});
addEventListener('afterprint', () => {
  for (const details of closed) details.open = false;
  root.classList.remove('light');
  if (drawing) drawing.redraw();
});
}());
