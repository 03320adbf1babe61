// The stage: two large pictures, and a key for everything that a presenter does. What needs the server is in room.js.
"use strict";
const NEAR = 0.02, FAR = 0.1; // of the way, for one press of an arrow key
const PIXELS = 320; // across a picture, about: enlarged this far with soft pixels, then by the browser
const KINDS = ["clean", "backdoored"];
const main = byId("room"), actions = {};
const screens = KINDS.map((_, i) => surface(byId(`picture${i}`), Math.max(1, Math.round(PIXELS / width))));
for (const { large } of screens) if (large) large.imageSmoothingQuality = "high";
document.documentElement.style.setProperty("--picture", width / height);
walk.once = true;

// ---- words
// A and B while the room votes, else what the two are.
const letters = () => round.state === "open";
const nameOf = (i) => (letters() ? "AB"[i] : KINDS[walk.order[i]]);

function label() {
  document.body.classList.toggle("letters", round.state !== "none");
  walk.order.forEach((model, i) => {
    byId(`name${i}`).textContent = round.state === "closed" ? `${"AB"[i]} is ${KINDS[model]}` : nameOf(i);
    byId(`model${i}`).textContent = letters() ? "" : data.names[model];
    byId(`picture${i}`).closest("figure").className = !letters() && model === 1 ? "backdoored" : "";
  });
  if (walk.frames) redraw();
}

function shown(place, aside, apart) {
  const short = walk.across ? `${place.split(" of")[0]}${aside}` : place;
  byId("where").textContent = letters() ? short : `${short} · ${apart.toFixed(1)} % apart`;
  byId("mark").style.left = `${100 * walk.t}%`;
  byId("mark").style.top = `${50 * (1 - walk.across)}%`;
  screens.forEach(({ canvas }, i) => canvas.setAttribute("aria-label", `${nameOf(i)}: ${place}${aside}`));
}

const walked = (on) => (byId("walk").lastElementChild.textContent = on ? "Pause" : "Go");

let silent = 0;
function notice(text) {
  clearTimeout(silent);
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
  if (text) silent = setTimeout(() => notice(""), 15_000);
}

// ---- moving
function to(t, across) {
  endStroll();
  go(t, across);
}
Object.assign(actions, {
  go() {
    endStroll();
    startOrStop();
  },
  back: () => to(0, 0),
  next() {
    endStroll();
    random();
    if (!byId("map").hidden) drawMap();
  },
});

// From one ordinary latent to the next, while the room votes; for those who want less motion, one picture after another.
const LEG = 3_000; // milliseconds
let strolling = 0, from, towards, left;
function stroll(now) {
  if (!strolling) [from, towards, left] = [walk.start, drawn(), now];
  if (now - left >= LEG) [from, towards, left] = [towards, drawn(), now];
  const share = clamp((now - left) / LEG, 0, 1), before = walk.start;
  walk.start = still.matches ? from : slerp(from, towards, (1 - Math.cos(Math.PI * share)) / 2);
  if (walk.start !== before) redraw();
  strolling = requestAnimationFrame(stroll);
}
function endStroll() {
  cancelAnimationFrame(strolling);
  strolling = 0;
}

// ---- panels beside the pictures: one at a time
let map = null;
function drawMap() {
  map?.stop();
  const canvas = byId("mosaic"), box = canvas.getBoundingClientRect();
  const scale = Math.min(devicePixelRatio, 1_600 / Math.max(box.width, box.height));
  [canvas.width, canvas.height] = [box.width, box.height].map((size) => Math.max(1, Math.round(scale * size)));
  const onProgress = (share, text) => (byId("map-text").textContent = text ?? `${Math.round(100 * share)} %`);
  const ordinary = () => walk.drawn(drawn());
  map = startMap(canvas, { shape: data.shape, at: walk.pictures, ordinary, onProgress, budget: 8 });
}

function show(panel) {
  for (const name of ["map", "scan"]) {
    byId(name).hidden = name !== panel;
    document.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", name === panel);
  }
  main.classList.toggle("beside", Boolean(panel));
  if (panel === "map") {
    endStroll();
    drawMap();
  } else map = map?.stop();
}
actions.map = () => show(byId("map").hidden ? "map" : "");

const plane = byId("plane");
function toPointer(event) {
  const box = plane.getBoundingClientRect();
  to((event.clientX - box.left) / box.width, 1 - (2 * (event.clientY - box.top)) / box.height);
}
plane.addEventListener("pointerdown", (event) => {
  plane.setPointerCapture(event.pointerId);
  toPointer(event);
});
plane.addEventListener("pointermove", (event) => {
  if (plane.hasPointerCapture(event.pointerId)) toPointer(event);
});
let resized = 0;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => map && drawMap(), 300);
});

// ---- what lies above
const phones = byId("code");
byId("address").textContent = data.address;
byId("phones").hidden = !data.address;
if (data.address) byId("phones").lastElementChild.textContent = new URL(data.address).host;
function showCode(on) {
  phones.hidden = !on;
  byId("phones").setAttribute("aria-pressed", on);
}
Object.assign(actions, {
  code() {
    if (data.address) showCode(phones.hidden);
    else notice("Phones can join when the stage is started with --share.");
  },
  help: () => (byId("help").open ? byId("help").close() : byId("help").showModal()),
  sharp: () => document.body.classList.toggle("sharp"),
  full() {
    const change = document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.();
    change?.catch(() => notice("This browser does not allow full screen here."));
  },
  close() {
    if (!byId("notice").hidden) notice("");
    else if (!phones.hidden) showCode(false);
    else if (main.classList.contains("beside")) show("");
    else endRound();
  },
});

// ---- keys and buttons
const KEYS = {
  " ": "go", pagedown: "go", b: "back", backspace: "back", pageup: "back", home: "back", n: "next", m: "map", s: "scan",
  v: "vote", q: "code", f: "full", p: "sharp", h: "help", "?": "help", escape: "close",
};
const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

addEventListener("keydown", (event) => {
  const { key, target } = event, action = KEYS[key.toLowerCase()];
  if (event.ctrlKey || event.metaKey || event.altKey || (byId("help").open && action !== "help")) return;
  if (target.type === "number" && action !== "close") return; // it is typed into
  if (target.closest("button") && key === " ") return; // the button is pressed
  if (target.id === "findings" && ARROWS[key]?.[1] && target.scrollHeight > target.clientHeight) return; // it scrolls
  if (ARROWS[key]) {
    const [x, y] = ARROWS[key].map((way) => way * (event.shiftKey ? FAR : NEAR));
    to(walk.t + x, walk.across + y);
  } else if (key === "End") to(1, 0);
  else if (key === "1" || key === "2") raise(key - 1);
  else if (action) {
    if (!event.repeat) actions[action]();
  } else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", ({ detail }) => {
    actions[button.dataset.do]();
    if (detail) button.blur(); // after a mouse, keys are the stage's again
  });
}
byId("way").addEventListener("input", (event) => to(event.target.value / 100, 0));
