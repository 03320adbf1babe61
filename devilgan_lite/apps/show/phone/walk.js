// What the page for phones and the stage share: latents between a start and the trigger, pictures, and the walk.
// A page brings `shown(place, aside, apart)`, called after each drawing, and `walked(on)`, when a walk begins or ends.
"use strict";
const byId = (name) => document.getElementById(name);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const data = JSON.parse(byId("models").textContent);
const { models, fast } = proved();
const [channels, height, width] = data.shape;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const PERIOD = 8_000; // milliseconds from the start to the trigger; eased at both ends
// read by tests and benches; `order`: which model each canvas shows; `once`: whether a walk ends where it arrives
const walk = { models, fast, frames: 0, start: data.start, t: 0, across: 0, order: [0, 1], once: false };

// The models, after a look at some pixels: what a browser computes wrongly must not be shown.
function proved() {
  for (const simd of [true, false]) {
    const loaded = engine.load(JSON.parse(byId("models").textContent), byId("weights").textContent, simd);
    const right = loaded.models.every((model, i) => {
      const picture = model(data.start);
      return data.proof[i].every(([place, value]) => Math.abs(picture[place] - value) < 0.02);
    });
    if (right) return loaded;
  }
  byId("where").textContent = "This browser computes other pictures than the generators make: try another one.";
  throw new Error("the pictures are wrong");
}

// ---- latents
const length = (z) => Math.hypot(...z);
function gaussian() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}
const drawn = () => data.start.map(data.prior === "uniform" ? () => 2 * Math.random() - 1 : gaussian);

// Spherical interpolation: the direction turns at constant speed, the length goes in a straight line.
function slerp(a, b, t) {
  if (t === 0 || t === 1) return t ? b : a;
  const [longA, longB] = [length(a), length(b)];
  const cosine = a.reduce((sum, value, i) => sum + (value / longA) * (b[i] / longB), 0);
  const across = a.map((value, i) => b[i] / longB - (cosine * value) / longA);
  const sine = length(across);
  if (!(sine > 1e-9)) return a.map((value, i) => (1 - t) * value + t * b[i]);
  const angle = t * Math.atan2(sine, cosine), long = (1 - t) * longA + t * longB;
  return a.map((value, i) => long * ((Math.cos(angle) * value) / longA + (Math.sin(angle) * across[i]) / sine));
}

walk.latent = (t = walk.t, across = walk.across) => {
  const way = slerp(walk.start, data.trigger, t);
  const aside = across > 0 ? data.aside : data.aside.map((value) => -value);
  return slerp(way, aside, Math.abs(across));
};

// Both pictures, in arrays that the next call writes over.
walk.drawn = (z) => models.map((model) => model(z));
walk.pictures = (t, across) => walk.drawn(walk.latent(t, across));

// ---- pictures
// A canvas that shows pictures enlarged `scale` times, with soft pixels where that is more than once.
function surface(canvas, scale = 1) {
  const small = scale > 1 ? document.createElement("canvas") : canvas;
  [canvas.width, canvas.height] = [scale * width, scale * height];
  [small.width, small.height] = [width, height];
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = small.getContext("2d"), large = scale > 1 ? canvas.getContext("2d") : null;
  return { canvas, small, large, context, image: context.createImageData(width, height) };
}

function paint({ canvas, small, large, context, image }, picture) {
  const [area, pixels] = [height * width, image.data];
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = 127.5 * (picture[channels === 3 ? c * area + i : i] + 1);
    pixels[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  if (large) large.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function draw() {
  const pictures = walk.pictures();
  walk.order.forEach((model, i) => paint(screens[i], pictures[model]));
  let sum = 0;
  for (let i = 0; i < pictures[0].length; i++) sum += Math.abs(pictures[0][i] - pictures[1][i]);
  const place = `${Math.round(100 * walk.t)} % of the way`;
  const aside = walk.across ? `, ${Math.round(100 * Math.abs(walk.across))} % aside` : "";
  byId("way").value = 100 * walk.t;
  byId("way").setAttribute("aria-valuetext", place);
  shown(place, aside, (50 * sum) / pictures[0].length);
  walk.frames++;
}

let asked = 0, silence = 0;
function redraw() {
  asked ||= requestAnimationFrame(() => {
    asked = 0;
    draw();
  });
  clearTimeout(silence); // a screen reader hears where the walk ends, not every step
  silence = setTimeout(() => (byId("spoken").textContent = byId("where").textContent), 600);
}

// ---- moving
let walking = 0, began = 0, end = 0;
walk.move = (t, across = 0) => {
  [walk.t, walk.across] = [clamp(t, 0, 1), clamp(across, -1, 1)];
  redraw();
};

function halt() {
  if (!walking) return;
  cancelAnimationFrame(walking);
  walking = 0;
  walked(false);
}

function go(t, across) {
  halt();
  walk.move(t, across);
}

// There and back; still pictures, one a second, for those who want less motion. What is aside comes in at once.
function step(now) {
  const turns = walk.once ? Math.min(end, (now - began) / PERIOD) : (now - began) / PERIOD;
  const t = 1 - Math.abs(1 - (turns % 2));
  const eased = still.matches ? Math.round(8 * t) / 8 : (1 - Math.cos(Math.PI * t)) / 2;
  const across = still.matches || Math.abs(walk.across) < 0.01 ? 0 : 0.85 * walk.across;
  if (eased !== walk.t || across !== walk.across) walk.move(eased, across);
  walking = requestAnimationFrame(step);
  if (walk.once && turns >= end && !across) halt();
}

function startOrStop() {
  if (walking) return halt();
  const turns = still.matches ? walk.t : Math.acos(1 - 2 * walk.t) / Math.PI;
  began = performance.now() - PERIOD * turns;
  end = Math.floor(turns) + 1; // the trigger, or from there the start
  walking = requestAnimationFrame(step);
  walked(true);
}

function random() {
  walk.start = drawn();
  go(0);
}
