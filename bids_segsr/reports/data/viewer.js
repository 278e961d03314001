(async function () {
  'use strict';
  const { shape, affine, window: grey, extreme, labels } = FACTS;
  const spacing = [0, 1, 2].map((c) => Math.hypot(...[0, 1, 2].map((r) => affine[r][c])));
  const EDGES = [['A', 'P', 'S', 'I'], ['R', 'L', 'S', 'I'], ['R', 'L', 'A', 'P']]; // left, right, top, bottom
  const one = (query) => document.querySelector(query);
  const all = (query) => [...document.querySelectorAll(query)];
  const told = one('#told');
  const tell = () => parent !== window && parent.postMessage({ viewerHeight: one('main').offsetHeight }, '*');

  async function unpack(name) {
    const packed = Uint8Array.from(atob(one('#data-' + name).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
    const data = new Uint8Array(await new Response(stream).arrayBuffer());
    for (let row = 0; row < data.length; row += shape[0]) {
      for (let i = row + 1; i < row + shape[0]; i++) data[i] += data[i - 1]; // see _deflated
    }
    return data;
  }
  const volumes = {};
  try {
    for (const name of FACTS.layers) volumes[name] = await unpack(name);
  } catch (error) {
    told.textContent = 'This browser cannot unpack the volumes (' + error.message + '): see the figures of the report.';
    tell();
    return;
  }
  told.hidden = true;
  one('#viewer').hidden = false;

  const middle = shape.map((n) => (n - 1) / 2);
  const start = () => ({ at: middle.map(Math.round), centre: [...middle], zoom: 1, low: 0, high: 255 });
  const state = { ...start(), layer: 'superresolved', blend: 1, opacity: labels.length ? 0.25 : 0, cross: true };
  const shown = new Set(labels.map((label) => label.value));
  const canvases = all('canvas');
  const buffer = document.createElement('canvas');

  function residualColours() { // blue where too dark, orange where too bright, as in the figure
    const stops = [[143, 227, 255], [45, 143, 214], [0, 0, 0], [217, 98, 43], [255, 217, 160]];
    return Array.from({ length: 256 }, (_, v) => {
      const x = Math.min(v / 255 * 4, 3.999), n = Math.floor(x), part = x - n;
      return stops[n].map((c, i) => c + (stops[n + 1][i] - c) * part);
    });
  }
  const RESIDUAL = residualColours();
  const TISSUE = [];
  for (const label of labels) {
    TISSUE[label.value] = [1, 3, 5].map((i) => parseInt(label.colour.slice(i, i + 2), 16));
  }
  const others = (axis) => [0, 1, 2].filter((a) => a !== axis);
  const index = (at) => at[0] + shape[0] * (at[1] + shape[1] * at[2]);
  const mm = (at) => [0, 1, 2].map((r) => affine[r][3] + at.reduce((sum, x, c) => sum + affine[r][c] * x, 0));
  const signed = (x, digits) => (x < 0 ? '\u2212' : '') + Math.abs(x).toFixed(digits);

  function cut(axis) { // rows from the top, the right of the scanner at the left
    const [u, v] = others(axis), width = shape[u], height = shape[v];
    const picture = new ImageData(width, height), out = picture.data;
    const stride = [1, shape[0], shape[0] * shape[1]];
    const span = 255 / Math.max(state.high - state.low, 1);
    const { superresolved, interpolated, residual, labels: tissues } = volumes;
    for (let y = 0, o = 0; y < height; y++) {
      let i = state.at[axis] * stride[axis] + (height - 1 - y) * stride[v] + (width - 1) * stride[u];
      for (let x = 0; x < width; x++, o += 4, i -= stride[u]) {
        let colour;
        if (state.layer === 'residual') colour = RESIDUAL[residual[i]];
        else {
          const value = interpolated[i] + state.blend * (superresolved[i] - interpolated[i]);
          const level = (value - state.low) * span;
          colour = [level, level, level];
        }
        const tint = tissues && state.opacity > 0 && shown.has(tissues[i]) ? TISSUE[tissues[i]] : null;
        for (let c = 0; c < 3; c++) out[o + c] = tint ? colour[c] + state.opacity * (tint[c] - colour[c]) : colour[c];
        out[o + 3] = 255;
      }
    }
    return picture;
  }
  function place(canvas) { // from voxels to pixels of the canvas
    const axis = +canvas.dataset.axis, [u, v] = others(axis);
    const fit = Math.min(...canvases.map((c) => {
      const [a, b] = others(+c.dataset.axis);
      return Math.min(c.width / (shape[a] * spacing[a]), c.height / (shape[b] * spacing[b]));
    })) * state.zoom;
    const [su, sv] = [fit * spacing[u], fit * spacing[v]];
    const toX = (i) => canvas.width / 2 - (i - state.centre[u]) * su;
    const toY = (j) => canvas.height / 2 - (j - state.centre[v]) * sv;
    const back = (x, y) => [state.centre[u] - (x - canvas.width / 2) / su, state.centre[v] - (y - canvas.height / 2) / sv];
    return { axis, u, v, su, sv, toX, toY, back };
  }
  function draw(canvas) {
    const ratio = window.devicePixelRatio || 1, pen = canvas.getContext('2d');
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const { axis, u, v, su, sv, toX, toY } = place(canvas);
    buffer.width = shape[u]; buffer.height = shape[v];
    buffer.getContext('2d').putImageData(cut(axis), 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.imageSmoothingEnabled = su < 8 * ratio && state.layer !== 'residual';
    pen.drawImage(buffer, toX(shape[u] - 0.5), toY(shape[v] - 0.5), shape[u] * su, shape[v] * sv);
    if (state.cross) {
      const x = toX(state.at[u]), y = toY(state.at[v]), gap = 7 * ratio;
      pen.strokeStyle = '#ffd166'; pen.lineWidth = ratio;
      pen.beginPath();
      for (const [a, b, c, d] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
        pen.moveTo(a, b); pen.lineTo(c, d);
      }
      pen.stroke();
    }
    pen.font = `600 ${14 * ratio}px system-ui, sans-serif`;
    pen.textAlign = 'center'; pen.textBaseline = 'middle'; pen.lineWidth = 3 * ratio; pen.strokeStyle = '#000'; pen.fillStyle = '#eee';
    const far = 11 * ratio, spots = [[far, height / 2], [width - far, height / 2], [width / 2, far], [width / 2, height - far]];
    EDGES[axis].forEach((letter, n) => { pen.strokeText(letter, ...spots[n]); pen.fillText(letter, ...spots[n]); });
  }
  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      canvases.forEach((canvas) => { // sizes first: the scale is one for all planes
        canvas.width = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
        canvas.height = Math.round(canvas.clientHeight * (window.devicePixelRatio || 1));
      });
      canvases.forEach(draw);
      const where = mm(state.at), i = index(state.at), { superresolved, interpolated, residual, labels: tissues } = volumes;
      const value = (byte) => grey[0] + byte / 255 * (grey[1] - grey[0]);
      const short = (x) => Number(x.toPrecision(4)).toString().replace('-', '\u2212');
      const parts = ['x ' + signed(where[0], 1) + '  y ' + signed(where[1], 1) + '  z ' + signed(where[2], 1) + ' mm',
        'interpolated ' + short(value(interpolated[i])), 'super-resolved ' + short(value(superresolved[i]))];
      if (residual) parts.push('residual ' + signed((residual[i] - 127.5) / 127.5 * extreme, 1) + ' % of the range');
      const tissue = tissues && labels.find((label) => label.value === tissues[i]);
      if (tissue) parts.push(tissue.name);
      one('#readout').textContent = parts.join(' \u00b7 ');
      all('.plane input').forEach((slider) => {
        const axis = +slider.dataset.axis;
        slider.max = shape[axis] - 1; slider.value = state.at[axis];
        one(`output[data-axis="${axis}"]`).textContent = 'xyz'[axis] + ' = ' + signed(where[axis], 1) + ' mm';
      });
      all('[data-layer]').forEach((button) => button.setAttribute('aria-pressed', String(
        button.dataset.layer === state.layer && (state.layer === 'residual' || state.blend === +(state.layer === 'superresolved')))));
      one('#blend').value = 100 * state.blend;
      if (one('#opacity')) one('#opacity').value = 100 * state.opacity;
      one('#cross').checked = state.cross;
    });
  }
  const inside = (x, axis) => Math.max(0, Math.min(shape[axis] - 1, Math.round(x)));
  function move(axis, by) { state.at[axis] = inside(state.at[axis] + by, axis); redraw(); }
  function show(layer) {
    if (!volumes[layer]) return;
    state.layer = layer;
    if (layer !== 'residual') state.blend = layer === 'superresolved' ? 1 : 0;
    redraw();
  }
  function zoom(factor, canvas, x, y) { // the point under the pointer stays
    const before = canvas && place(canvas), spot = canvas && before.back(x, y);
    state.zoom = Math.max(1, Math.min(20, state.zoom * factor));
    if (state.zoom === 1) state.centre = [...middle];
    else if (canvas) {
      const after = place(canvas).back(x, y);
      state.centre[before.u] += spot[0] - after[0]; state.centre[before.v] += spot[1] - after[1];
    } else state.centre = [...state.at];
    redraw();
  }
  canvases.forEach((canvas) => {
    const axis = +canvas.dataset.axis, [u, v] = others(axis), touches = new Map();
    let wheel = 0;
    const spot = (event) => {
      const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
      return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    };
    const point = (event) => {
      const [i, j] = place(canvas).back(...spot(event));
      state.at[u] = inside(i, u); state.at[v] = inside(j, v);
      redraw();
    };
    canvas.addEventListener('pointerdown', (event) => {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      touches.set(event.pointerId, spot(event));
      if (touches.size === 1 && event.button === 0 && !event.shiftKey) point(event);
      if (event.button) event.preventDefault();
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!touches.has(event.pointerId)) return;
      const last = touches.get(event.pointerId), now = spot(event), { su, sv } = place(canvas);
      const apart = () => { const [a, b] = [...touches.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
      const before = touches.size === 2 && apart();
      touches.set(event.pointerId, now);
      const [dx, dy] = [now[0] - last[0], now[1] - last[1]];
      if (touches.size === 2) zoom(apart() / before, canvas, ...now);
      else if (event.buttons === 2) {
        const centre = (state.low + state.high) / 2 - dy / 2, half = Math.max(4, (state.high - state.low) / 2 + dx / 2);
        state.low = centre - half; state.high = centre + half; redraw();
      } else if (event.buttons === 4 || event.shiftKey) {
        state.centre[u] += dx / su; state.centre[v] += dy / sv; redraw();
      } else point(event);
    });
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, (event) => touches.delete(event.pointerId));
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    canvas.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) { zoom(Math.exp(-event.deltaY / 200), canvas, ...spot(event)); return; }
      wheel += event.deltaMode ? 40 * Math.sign(event.deltaY) : event.deltaY;
      const steps = Math.trunc(wheel / 40);
      wheel -= 40 * steps;
      if (steps) move(axis, -steps);
    }, { passive: false });
    canvas.addEventListener('keydown', (event) => {
      const [along, by] = { ArrowLeft: [u, 1], ArrowRight: [u, -1], ArrowUp: [v, 1], ArrowDown: [v, -1], PageUp: [axis, 1], PageDown: [axis, -1] }[event.key] || [];
      if (by) { event.preventDefault(); move(along, by); }
    });
  });
  let tint = state.opacity;
  const KEYS = {
    1: () => show('interpolated'), 2: () => show('superresolved'), 3: () => show('residual'),
    ' ': () => show(state.layer === 'superresolved' && state.blend === 1 ? 'interpolated' : 'superresolved'),
    '+': () => zoom(1.25), '=': () => zoom(1.25), '-': () => zoom(0.8),
    0: () => { Object.assign(state, start()); redraw(); },
    c: () => { state.cross = !state.cross; redraw(); },
    t: () => { if (state.opacity) { tint = state.opacity; state.opacity = 0; } else state.opacity = tint; redraw(); },
  };
  document.addEventListener('keydown', (event) => {
    const used = KEYS[event.key];
    if (!used || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === ' ' && /BUTTON|INPUT/.test(event.target.tagName)) return;
    event.preventDefault();
    used();
  });
  all('[data-layer]').forEach((button) => button.addEventListener('click', () => show(button.dataset.layer)));
  all('.plane input').forEach((slider) => slider.addEventListener('input', () => {
    state.at[+slider.dataset.axis] = +slider.value; redraw();
  }));
  all('[data-label]').forEach((box) => box.addEventListener('change', () => {
    shown[box.checked ? 'add' : 'delete'](+box.dataset.label); redraw();
  }));
  one('#blend').addEventListener('input', (event) => {
    state.layer = event.target.value < 50 ? 'interpolated' : 'superresolved'; state.blend = event.target.value / 100; redraw();
  });
  if (one('#opacity')) one('#opacity').addEventListener('input', (event) => { state.opacity = event.target.value / 100; redraw(); });
  one('#cross').addEventListener('change', KEYS.c);
  one('#reset').addEventListener('click', KEYS[0]);
  new ResizeObserver(() => { redraw(); tell(); }).observe(one('main'));
  redraw();
})();
