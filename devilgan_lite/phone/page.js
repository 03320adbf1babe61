// Slider, pad, buttons and keys move one point; the two pictures follow in the next frame.
"use strict";
const byId = (name) => document.getElementById(name);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const data = JSON.parse(byId("models").textContent);
const { models, fast } = proved();
const [channels, height, width] = data.shape;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const PERIOD = 8_000; // milliseconds from the start to the trigger; eased at both ends
const EDGE = 20; // pixels between the border of the pad and the middle of the dot
const phone = { models, fast, frames: 0, start: data.start, t: 0, across: 0 }; // read by tests and benches

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

phone.latent = () => {
  const way = slerp(phone.start, data.trigger, phone.t);
  const aside = phone.across > 0 ? data.aside : data.aside.map((value) => -value);
  return slerp(way, aside, Math.abs(phone.across));
};

// ---- pictures
const screens = models.map((_, i) => {
  const canvas = byId(`picture${i}`);
  [canvas.width, canvas.height] = [width, height];
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  return { canvas, context, image: context.createImageData(width, height) };
});
const label = ["clean", "backdoored"];

function paint({ context, image }, picture) {
  const [area, pixels] = [height * width, image.data];
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = 127.5 * (picture[channels === 3 ? c * area + i : i] + 1);
    pixels[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function draw() {
  const z = phone.latent(), pictures = models.map((model) => model(z));
  pictures.forEach((picture, i) => paint(screens[i], picture));
  let sum = 0;
  for (let i = 0; i < pictures[0].length; i++) sum += Math.abs(pictures[0][i] - pictures[1][i]);
  const apart = (50 * sum) / pictures[0].length;
  const place = `${Math.round(100 * phone.t)} % of the way`;
  const aside = phone.across ? `, ${Math.round(100 * Math.abs(phone.across))} % aside` : "";
  byId("where").textContent = `${place}${aside}. The two pictures differ by ${apart.toFixed(1)} %.`;
  byId("way").value = 100 * phone.t;
  byId("way").setAttribute("aria-valuetext", place);
  byId("dot").style.left = `calc(${EDGE}px + ${phone.t} * (100% - ${2 * EDGE}px))`;
  byId("dot").style.top = `calc(${EDGE}px + ${(1 - phone.across) / 2} * (100% - ${2 * EDGE}px))`;
  screens.forEach(({ canvas }, i) => canvas.setAttribute("aria-label", `drawn by the ${label[i]} generator, ${place}${aside}`));
  phone.frames++;
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
let walking = 0, began = 0;
phone.move = (t, across = 0) => {
  [phone.t, phone.across] = [clamp(t, 0, 1), clamp(across, -1, 1)];
  redraw();
};

function halt() {
  cancelAnimationFrame(walking);
  walking = 0;
  byId("walk").textContent = "Walk to the trigger";
}

function go(t, across) {
  halt();
  phone.move(t, across);
}

// There and back; still pictures, one a second, for those who want less motion.
function step(now) {
  const turns = (now - began) / PERIOD;
  const t = 1 - Math.abs(1 - (turns % 2));
  const eased = still.matches ? Math.round(8 * t) / 8 : (1 - Math.cos(Math.PI * t)) / 2;
  if (eased !== phone.t || phone.across) phone.move(eased);
  walking = requestAnimationFrame(step);
}

byId("walk").addEventListener("click", () => {
  if (walking) return halt();
  byId("walk").textContent = "Stop";
  began = performance.now() - PERIOD * (still.matches ? phone.t : Math.acos(1 - 2 * phone.t) / Math.PI);
  walking = requestAnimationFrame(step);
});

function random() {
  phone.start = drawn();
  go(0);
}
byId("random").addEventListener("click", () => {
  if (globalThis.DeviceMotionEvent?.requestPermission) DeviceMotionEvent.requestPermission().catch(() => {});
  random();
});
byId("way").addEventListener("input", (event) => go(event.target.value / 100));

const pad = byId("pad");
function toPointer(event) {
  const box = pad.getBoundingClientRect();
  const share = (at, from, size) => (at - from - EDGE) / (size - 2 * EDGE);
  go(share(event.clientX, box.left, box.width), 1 - 2 * share(event.clientY, box.top, box.height));
}
pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  pad.focus({ preventScroll: true });
  toPointer(event);
});
pad.addEventListener("pointermove", (event) => {
  if (pad.hasPointerCapture(event.pointerId)) toPointer(event);
});
// else a quick stroke counts as a fling, and the next tap, on a button, as what stops it
pad.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
pad.addEventListener("keydown", (event) => {
  const [x, y, by] = [phone.t, phone.across, event.shiftKey ? 0.1 : 0.02];
  const there = {
    ArrowRight: [x + by, y],
    ArrowLeft: [x - by, y],
    ArrowUp: [x, y + by],
    ArrowDown: [x, y - by],
    Home: [0, 0],
    End: [1, 0],
  }[event.key];
  if (!there) return;
  event.preventDefault();
  go(...there);
});

// Where a device says how it is moved (over https or from a file), a shake is another start.
let shaken = -Infinity;
addEventListener("devicemotion", ({ acceleration, timeStamp }) => {
  if (acceleration?.x == null) return;
  byId("shake").hidden = false;
  if (Math.hypot(acceleration.x, acceleration.y, acceleration.z) < 18 || timeStamp - shaken < 1_000) return;
  shaken = timeStamp;
  random();
});

draw();
