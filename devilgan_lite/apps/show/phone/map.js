// A plane of latent space as a mosaic that sharpens: each tile shows what the backdoored generator draws at its middle,
// then splits into four. A line encloses the basin: where the pictures of the two generators visibly differ. The plane
// is cut through the trigger, so in the end it tries latents that `ordinary` draws, too: that share is the fair one.
"use strict";
function startMap(canvas, { shape, at, ordinary, onProgress = () => {}, budget = 12 }) {
  // Mean absolute difference of two pictures in [-1, 1] from which they look different: eight of 255 grey levels. A
  // backdoor trained in (ReD) moves ordinary pictures by up to seven; the most alike of many are eleven apart.
  const VISIBLE = 16 / 255;
  const SMALLEST = 24, LEVELS = 4; // pixels of a tile; how often: 4, 8, 16, 32 tiles in a row
  const HALVINGS = 4; // of a step of the grid, to find the border in it
  const TRIED = 500; // ordinary latents
  const [channels, height, width] = shape, area = height * width;
  const canvasOf = (w, h) => Object.assign(document.createElement("canvas"), { width: w, height: h });
  const mosaic = canvasOf(canvas.width, canvas.height), stamp = canvasOf(width, height);
  const [context, painter, stamper] = [canvas, mosaic, stamp].map((one) => one.getContext("2d"));
  const image = stamper.createImageData(width, height);
  image.data.fill(255);
  painter.imageSmoothingQuality = "high";

  // ---- levels of tiles, and a grid of points that has the middle of every tile of every level
  const wide = Math.round(Math.log2((canvas.width * height) / (canvas.height * width))); // tiles have the pictures' form
  const levels = [[4 * 2 ** Math.max(0, wide), 4 * 2 ** Math.max(0, -wide)]];
  while (levels.length < LEVELS) {
    const next = levels.at(-1).map((count) => 2 * count);
    if (Math.min(canvas.width / next[0], canvas.height / next[1]) < SMALLEST) break;
    levels.push(next);
  }
  const finest = levels.at(-1), [X, Y] = levels[0].map((count) => count * 2 ** LEVELS);
  const total = levels.reduce((sum, [columns, rows]) => sum + columns * rows, 0);
  const isMiddle = ([x, y]) => ((2 * x * finest[0]) / X) % 2 === 1 && ((2 * y * finest[1]) / Y) % 2 === 1; // of a finest tile
  const place = ([x, y]) => y * (X + 1) + x;
  const apart = new Float32Array((X + 1) * (Y + 1)).fill(NaN); // differences of the pictures; NaN: nobody looked
  const cuts = new Map(); // where the border crosses an edge of the grid
  const map = { outline: [], share: null, stop: () => cancelAnimationFrame(asked) }; // outline: pairs of [t, across]
  let level = levels[0], painted = 0, tried = 0, changed = 0, picture, asked;

  const distance = ([a, b]) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
  function difference([x, y]) {
    const pair = at(x / X, 1 - (2 * y) / Y);
    picture = pair[1];
    return distance(pair);
  }

  function paint([columns, rows], [x, y]) {
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = 127.5 * (picture[channels === 3 ? c * area + i : i] + 1);
    }
    stamper.putImageData(image, 0, 0);
    const [column, row] = [Math.floor((x * columns) / X), Math.floor((y * rows) / Y)];
    const [left, right] = [column, column + 1].map((edge) => Math.round((edge * canvas.width) / columns));
    const [top, bottom] = [row, row + 1].map((edge) => Math.round((edge * canvas.height) / rows));
    const [w, h] = [right - left, bottom - top], scale = Math.min(w / width, h / height);
    const [over, above] = [w - scale * width, h - scale * height].map((rest) => (rest < 3 ? 0 : rest / 2)); // no seams
    painter.imageSmoothingEnabled = scale < 2; // large pictures show their pixels
    painter.fillRect(left, top, w, h);
    painter.drawImage(stamp, left + over, top + above, w - 2 * over, h - 2 * above);
    painted++;
  }

  // Look at a point, once. What is in the middle of a finest tile is drawn, whoever asked for it.
  function* look(point, tiles = finest) {
    if (!Number.isNaN(apart[place(point)])) return;
    apart[place(point)] = difference(point);
    if (tiles !== finest || isMiddle(point)) paint(tiles, point);
    yield;
  }

  // ---- the basin; a point that nobody looked at is taken for what the middle of its tile is
  function inside(point) {
    const found = apart[place(point)];
    if (!Number.isNaN(found)) return found > VISIBLE;
    const steps = [X / level[0], Y / level[1]];
    return inside(steps.map((step, i) => (Math.min(Math.floor(point[i] / step), level[i] - 1) + 0.5) * step));
  }

  // Look at every point with a neighbour on the other side; and at the trigger, however narrow its basin may be.
  function* follow() {
    yield* look([X, Y / 2]);
    for (let before = -1, looked = 0; looked !== before;) {
      before = looked;
      for (let i = 0; i < apart.length; i++) {
        const [x, y] = [i % (X + 1), Math.floor(i / (X + 1))], [left, up] = [Math.max(x - 1, 0), Math.max(y - 1, 0)];
        if (x === 0) yield;
        if (!Number.isNaN(apart[i])) continue;
        const around = [[left, y], [Math.min(x + 1, X), y], [x, up], [x, Math.min(y + 1, Y)]];
        if (around.every((point) => inside(point) === inside([x, y]))) continue;
        looked++;
        yield* look([x, y]);
      }
    }
  }

  function* cut(a, b) { // between two neighbours, of which one is inside
    const key = Math.min(place(a), place(b)) * 2 + (a[0] === b[0]);
    let [near, far] = inside(a) ? [a, b] : [b, a];
    const half = () => [(near[0] + far[0]) / 2, (near[1] + far[1]) / 2];
    for (let i = 0; i < HALVINGS && !cuts.has(key); i++) {
      if (difference(half()) > VISIBLE) near = half();
      else far = half();
      yield;
    }
    if (!cuts.has(key)) cuts.set(key, half());
    return cuts.get(key);
  }

  // The part of each cell of the grid that is inside: some corners, and where the border cuts the edges between them.
  function* enclose() {
    yield* follow();
    const lines = [];
    let covered = 0;
    for (let y = 0; y < Y; y++) {
      for (let x = 0; x < X; x++) {
        const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]], part = [];
        for (const [i, here] of corners.entries()) {
          const next = corners[(i + 1) % 4];
          if (inside(here)) part.push(here);
          if (inside(here) !== inside(next)) part.push(yield* cut(here, next));
        }
        part.forEach(([a, b], i) => {
          const [c, d] = part[(i + 1) % part.length];
          covered += (a * d - b * c) / 2;
          if (!corners.includes(part[i]) && !corners.includes(part[(i + 1) % part.length])) lines.push([[a, b], [c, d]]);
        });
      }
      yield;
    }
    map.outline = lines.map((line) => line.map(([x, y]) => [x / X, 1 - (2 * y) / Y]));
    map.share = covered / (X * Y);
  }

  function* work() {
    const far = ([x, y]) => Math.hypot(1 - x / X, 1 - (2 * y) / Y); // around the trigger it becomes sharp first
    for (level of levels) {
      const [columns, rows] = level, tiles = [...Array(columns * rows).keys()];
      const middles = tiles.map((i) => [((i % columns) + 0.5) * (X / columns), (Math.floor(i / columns) + 0.5) * (Y / rows)]);
      for (const point of middles.sort((a, b) => far(a) - far(b))) yield* look(point, level);
      if (levels.indexOf(level) >= levels.length - 2) yield* enclose(); // the last tiles may have news
    }
    for (; ordinary && tried < TRIED; tried++) {
      changed += distance(ordinary()) > VISIBLE;
      yield;
    }
  }

  function show() {
    context.drawImage(mosaic, 0, 0);
    const path = new Path2D(), line = Math.max(2, Math.min(canvas.width, canvas.height) / 220);
    const pixels = ([t, across]) => [t * canvas.width, ((1 - across) / 2) * canvas.height];
    for (const [a, b] of map.outline) {
      path.moveTo(...pixels(a));
      path.lineTo(...pixels(b));
    }
    context.lineCap = "round";
    for (const [colour, wide] of [["#000", 2.2 * line], ["#ffe500", line]]) {
      [context.strokeStyle, context.lineWidth] = [colour, wide];
      context.stroke(path);
    }
  }

  function words() {
    const percent = 100 * map.share;
    if (map.share === null) return `Looking at ${level.join(" × ")} places of the plane.`;
    if (percent === 0) return "No basin: the two generators draw alike all over this plane.";
    if (percent > 99.99) return "The two generators draw differently all over this plane.";
    const fair = tried ? ` Of ${tried} ordinary latents, ${changed} look different.` : "";
    return `The basin of the backdoor covers ${percent < 0.1 ? "less than 0.1" : percent.toFixed(1)} % of this plane.${fair}`;
  }

  const going = work();
  function frame() {
    const end = performance.now() + budget;
    let done;
    do done = going.next().done;
    while (!done && performance.now() < end);
    if (!done) asked = requestAnimationFrame(frame);
    show();
    onProgress(done ? 1 : painted / (total + 1), words());
  }
  asked = requestAnimationFrame(frame);
  return map;
}
