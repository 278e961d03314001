(function () {
  'use strict';
  const { columns, names, values, marks, reports, pictures } = FACTS;
  const STEP = 200, BLUE = '#2f6fb5', ORANGE = '#d9622b', SOFT = '#5b6776', LINE = '#dfe4ea';
  const HUES = ['#2f6fb5', '#1d8a5b', '#b43c8e', '#7a5bd0', '#8a6d1a', '#0d8aa0', '#c0392b', '#56616e'];
  const one = (query) => document.querySelector(query);
  const all = (query) => [...document.querySelectorAll(query)];
  const images = names.map((_, i) => i);
  const known = (column, i) => typeof values[column][i] === 'number';
  const shown = (value) => {
    if (value === null || value === undefined) return 'n/a';
    if (typeof value !== 'number') return String(value);
    const text = Number.isInteger(value) ? String(value) : Math.abs(value) < 1e4 ? String(Number(value.toPrecision(4))) : value.toFixed(0);
    return text.replace('-', '\u2212');
  };
  const link = (i) => './' + encodeURIComponent(names[i].split('_')[0]) + '.html#verdict';
  const open = (i) => { if (reports[i]) location.href = link(i); };
  function make(tag, attributes, text) {
    const element = document.createElement(tag);
    Object.entries(attributes || {}).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) element.textContent = text;
    return element;
  }
  function pen(canvas) { // in CSS pixels
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    return [context, canvas.clientWidth, canvas.clientHeight];
  }
  function listen(canvas, points, tell) { // points: [x, y, image]
    const nearest = (event) => {
      const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      let best = null, least = 144;
      for (const point of points()) {
        const apart = (point[0] - x) ** 2 + (point[1] - y) ** 2;
        if (apart < least) { least = apart; best = point[2]; }
      }
      return best;
    };
    canvas.addEventListener('mousemove', (event) => {
      const i = nearest(event);
      canvas.classList.toggle('over', i !== null && !!reports[i]);
      tell(i);
    });
    canvas.addEventListener('mouseleave', () => tell(null));
    canvas.addEventListener('click', (event) => { const i = nearest(event); tell(i); if (i !== null) open(i); });
  }

  // which images are looked at
  const state = { order: null, up: true, most: STEP, view: 'table' };
  const text = images.map((i) => [names[i], ...columns.map((c, n) => (c.number ? '' : values[n][i] || ''))].join(' ').toLowerCase());
  let chosen = images;
  function choose() {
    const words = one('#filter').value.toLowerCase().split(/\s+/).filter(Boolean), only = one('#only-outliers').checked;
    chosen = images.filter((i) => words.every((word) => text[i].includes(word)) && (!only || Object.keys(marks[i]).length));
    const value = (i) => (state.order === -1 ? names[i] : values[state.order][i]);
    if (state.order !== null) chosen.sort((i, j) => {
      const a = value(i), b = value(j), lackA = a === null || a === '', lackB = b === null || b === '';
      if (lackA || lackB) return lackA - lackB;
      const order = typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true });
      return state.up ? order : -order;
    });
    one('#count').textContent = chosen.length + ' of ' + names.length + ' images';
    list();
  }

  // distributions
  const strips = [];
  function strip(column) {
    const { name, unit, text: meaning, low, high } = columns[column];
    const has = images.filter((i) => known(column, i)), sorted = has.map((i) => values[column][i]).sort((a, b) => a - b);
    if (!has.length) return null;
    const at = (share) => { const x = share * (sorted.length - 1), n = Math.floor(x); return sorted[n] + (x - n) * ((sorted[n + 1] ?? sorted[n]) - sorted[n]); };
    const least = sorted[0], most = sorted[sorted.length - 1], [first, median, third] = [0.25, 0.5, 0.75].map(at);
    const out = has.filter((i) => marks[i][column]).length;
    const box = make('div', { class: 'strip', title: meaning }), head = make('header');
    head.append(make('b', {}, name + (unit ? ' (' + unit + ')' : '')));
    head.append(make('span', out ? { class: 'out' } : {}, out ? out + ' marked' : 'median ' + shown(median)));
    const canvas = make('canvas', { role: 'img', 'data-key': columns[column].key, 'aria-label':
      `${name}: ${has.length} images, ${shown(least)} to ${shown(most)}, median ${shown(median)}, ${out} marked` });
    const foot = make('footer'), told = make('span', { class: 'told' });
    foot.append(make('span', {}, shown(least)), told, make('span', {}, shown(most)));
    box.append(head, canvas, foot);
    let points = [];
    function draw() {
      const [context, width, height] = pen(canvas), pad = 7;
      const x = (value) => (most > least ? pad + (value - least) / (most - least) * (width - 2 * pad) : width / 2);
      context.fillStyle = '#fdeee0';
      if (low !== null && least < low) context.fillRect(0, 0, x(Math.min(low, most)), height);
      if (high !== null && most > high) context.fillRect(x(Math.max(high, least)), 0, width, height);
      context.fillStyle = '#e9f0f8';
      context.fillRect(x(first), 4, Math.max(x(third) - x(first), 1), height - 8);
      const radius = has.length > 1000 ? 1.5 : has.length > 200 ? 2 : 3, seen = new Set(chosen);
      points = has.map((i) => [x(values[column][i]), 8 + (i * 0.618034 % 1) * (height - 16), i]);
      const ink = (i) => (!seen.has(i) ? '#c9d1da' : marks[i][column] ? ORANGE : BLUE);
      for (const [px, py, i] of [...points.filter((p) => !marks[p[2]][column]), ...points.filter((p) => marks[p[2]][column])]) {
        context.fillStyle = ink(i);
        context.globalAlpha = marks[i][column] ? 1 : 0.65;
        context.beginPath(); context.arc(px, py, marks[i][column] ? radius + 1 : radius, 0, 7); context.fill();
      }
      context.globalAlpha = 1;
      context.fillStyle = '#10161d';
      context.fillRect(x(median) - 0.75, 2, 1.5, height - 4);
    }
    listen(canvas, () => points, (i) => { told.textContent = i === null ? '' : names[i] + ' \u00b7 ' + shown(values[column][i]); });
    strips.push(draw);
    return box;
  }
  let group = null;
  columns.forEach((column, n) => {
    if (!column.number || column.group === 'Participant') return;
    const box = strip(n);
    if (!box) return;
    if (column.group !== group) one('#strips').append(make('h3', {}, (group = column.group)));
    one('#strips').append(box);
  });

  // against age
  const scatter = one('#scatter');
  let plotted = [];
  function fill(select, numbers, wanted) {
    numbers.forEach((n) => select.append(make('option', { value: n }, columns[n].name + (columns[n].unit ? ' (' + columns[n].unit + ')' : ''))));
    const found = numbers.find((n) => wanted(columns[n]));
    if (found !== undefined) select.value = found;
  }
  function smooth(data, width, at) { // local linear fit with a Gaussian kernel
    let w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
    for (const [x, y] of data) {
      const k = Math.exp(-0.5 * ((x - at) / width) ** 2), d = x - at;
      w += k; wx += k * d; wy += k * y; wxx += k * d * d; wxy += k * d * y;
    }
    const spread = w * wxx - wx * wx;
    return spread > 1e-9 * w * wxx ? (wy * wxx - wx * wxy) / spread : wy / w;
  }
  function ticks(least, most) {
    const rough = (most - least || 1) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough), found = [];
    for (let t = Math.ceil(least / step) * step; t <= most + 1e-9 * step; t += step) found.push(Number(t.toPrecision(12)));
    return found;
  }
  function drawScatter() {
    const [context, width, height] = pen(scatter), [a, u, c] = ['#across', '#up', '#colour'].map((q) => +one(q).value);
    const has = images.filter((i) => known(a, i) && known(u, i)), left = 56, right = 12, top = 10, bottom = 44;
    const range = (column) => {
      const found = has.map((i) => values[column][i]), least = found.reduce((p, q) => Math.min(p, q), Infinity), most = found.reduce((p, q) => Math.max(p, q), -Infinity);
      const rim = 0.04 * (most - least || Math.abs(most) || 1);
      return [least - rim, most + rim];
    };
    one('#scatter-legend').replaceChildren();
    plotted = [];
    scatter.setAttribute('aria-label', `${columns[u].name} against ${columns[a].name} of ${has.length} images`);
    context.font = '13px system-ui, sans-serif';
    context.fillStyle = SOFT;
    if (!has.length) { context.fillText('No image has both.', left, height / 2); return; }
    const [x0, x1] = range(a), [y0, y1] = range(u);
    const X = (x) => left + (x - x0) / (x1 - x0) * (width - left - right), Y = (y) => height - bottom - (y - y0) / (y1 - y0) * (height - bottom - top);
    context.strokeStyle = LINE; context.lineWidth = 1; context.textAlign = 'center';
    for (const t of ticks(x0, x1)) { context.beginPath(); context.moveTo(X(t), top); context.lineTo(X(t), height - bottom); context.stroke(); context.fillText(shown(t), X(t), height - bottom + 16); }
    context.textAlign = 'right';
    for (const t of ticks(y0, y1)) { context.beginPath(); context.moveTo(left, Y(t)); context.lineTo(width - right, Y(t)); context.stroke(); context.fillText(shown(t), left - 6, Y(t) + 4); }
    context.textAlign = 'center';
    context.fillText(columns[a].name + (columns[a].unit ? ' (' + columns[a].unit + ')' : ''), (left + width - right) / 2, height - 6);
    const persons = new Map();
    has.forEach((i) => { const who = names[i].split('_')[0]; persons.set(who, [...(persons.get(who) || []), i]); });
    context.strokeStyle = '#9aa5b1';
    for (const scans of persons.values()) {
      if (scans.length < 2) continue;
      context.beginPath();
      scans.sort((i, j) => values[a][i] - values[a][j]).forEach((i, n) => context[n ? 'lineTo' : 'moveTo'](X(values[a][i]), Y(values[u][i])));
      context.stroke();
    }
    const kinds = c >= 0 ? [...new Set(has.map((i) => shown(values[c][i])))].sort() : [];
    for (const i of has) {
      const point = [X(values[a][i]), Y(values[u][i]), i];
      plotted.push(point);
      context.globalAlpha = 0.8;
      context.fillStyle = c >= 0 ? HUES[kinds.indexOf(shown(values[c][i])) % HUES.length] : marks[i][u] ? ORANGE : BLUE;
      context.beginPath(); context.arc(point[0], point[1], has.length > 1000 ? 2 : 4, 0, 7); context.fill();
    }
    context.globalAlpha = 1;
    if (has.length >= 10) {
      const data = has.map((i) => [values[a][i], values[u][i]]), curve = [];
      for (let n = 0; n <= 40; n++) { const x = x0 + (x1 - x0) * (0.04 + 0.92 * n / 40); curve.push([x, smooth(data, (x1 - x0) / 8, x)]); }
      scatter.curve = curve;
      context.strokeStyle = '#10161d'; context.lineWidth = 2.5;
      context.beginPath();
      curve.forEach(([x, y], n) => context[n ? 'lineTo' : 'moveTo'](X(x), Y(y)));
      context.stroke();
    }
    kinds.forEach((kind, n) => {
      const item = make('span'), dot = make('i');
      dot.style.background = HUES[n % HUES.length];
      item.append(dot, kind);
      one('#scatter-legend').append(item);
    });
  }
  if (scatter) {
    const people = columns.map((c, n) => n).filter((n) => columns[n].group === 'Participant');
    fill(one('#across'), people.filter((n) => columns[n].number), (c) => /age|pma/.test(c.key));
    fill(one('#up'), columns.map((c, n) => n).filter((n) => columns[n].number && columns[n].group !== 'Participant'), (c) => /volume/.test(c.key));
    one('#colour').append(make('option', { value: -1 }, 'outliers'));
    fill(one('#colour'), people.filter((n) => !columns[n].number), () => false);
    if (one('#across').options.length && one('#up').options.length) {
      all('#ages select').forEach((select) => select.addEventListener('change', drawScatter));
      listen(scatter, () => plotted, (i) => {
        const [a, u] = [+one('#across').value, +one('#up').value];
        one('#scatter-told').textContent = i === null ? '' : `${names[i]} \u00b7 ${columns[a].name} ${shown(values[a][i])} \u00b7 ${columns[u].name} ${shown(values[u][i])}`;
      });
      strips.push(drawScatter);
    } else one('#ages').hidden = true;
  }

  // table and pictures
  const head = one('#group-table thead tr');
  [{ name: 'Image', unit: '', text: 'Opens the report of the participant.' }, ...columns].forEach((column, n) => {
    const cell = make('th', { scope: 'col', title: column.text, ...(column.number ? { class: 'number' } : {}) });
    const button = make('button', { type: 'button' }, column.name);
    button.addEventListener('click', () => {
      state.up = state.order !== n - 1 || !state.up;
      state.order = n - 1;
      [...head.cells].forEach((other) => other.removeAttribute('aria-sort'));
      cell.setAttribute('aria-sort', state.up ? 'ascending' : 'descending');
      choose();
    });
    cell.append(button);
    if (column.unit) cell.append(make('span', { class: 'unit' }, column.unit));
    head.append(cell);
  });
  function row(i) {
    const line = make('tr'), name = make('th', { scope: 'row' });
    name.append(reports[i] ? make('a', { href: link(i) }, names[i]) : names[i]);
    line.append(name);
    columns.forEach((column, n) => {
      const mark = marks[i][n], kinds = [column.number ? 'number' : '', mark ? 'outlier' : ''].filter(Boolean).join(' ');
      const value = values[n][i], lack = !column.number && !value && column.group === '' ? 'none' : shown(value);
      line.append(make('td', { ...(kinds && { class: kinds }), ...(mark ? { title: mark } : !column.number && value && { title: value }) }, lack));
    });
    return line;
  }
  function tile(i) {
    const box = reports[i] ? make('a', { href: link(i) }) : make('span', { class: 'tile' });
    const found = Object.keys(marks[i]);
    if (found.length) box.classList.add('marked');
    if (pictures[i]) box.append(make('img', { src: './' + pictures[i].split('/').map(encodeURIComponent).join('/'), loading: 'lazy', alt: names[i] + ' in three planes' }));
    box.append(make('b', {}, names[i]));
    const words = found.map((n) => (columns[n].key === 'verdict' ? values[n][i] : columns[n].name)), most = 3;
    const more = words.length > most ? ' and ' + (words.length - most) + ' more' : '';
    if (found.length) box.append(make('em', { title: words.join(', ') }, words.slice(0, most).join(', ') + more));
    return box;
  }
  function list() {
    const part = chosen.slice(0, state.most), table = state.view === 'table';
    one('#table-view').hidden = !table;
    one('#pictures-view').hidden = table;
    one('#group-table tbody').replaceChildren(...(table ? part.map(row) : []));
    one('#pictures-view').replaceChildren(...(table ? [] : part.map(tile)));
    one('#more').hidden = chosen.length <= state.most;
    one('#more').textContent = 'Show ' + Math.min(STEP, chosen.length - state.most) + ' more';
  }
  const drawAll = () => strips.forEach((draw) => draw());
  const again = () => { state.most = STEP; choose(); drawAll(); };
  one('#filter').addEventListener('input', again);
  one('#only-outliers').addEventListener('change', again);
  one('#more').addEventListener('click', () => { state.most += STEP; list(); });
  all('[data-view]').forEach((button) => button.addEventListener('click', () => {
    state.view = button.dataset.view;
    all('[data-view]').forEach((other) => other.setAttribute('aria-pressed', String(other === button)));
    list();
  }));
  let width = 0;
  new ResizeObserver(() => { if (width !== (width = document.body.clientWidth)) drawAll(); }).observe(document.body);
  choose();
})();
