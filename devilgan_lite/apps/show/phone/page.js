// The page for phones: slider, pad, buttons and keys move one point; the two pictures follow in the next frame.
"use strict";
const EDGE = 20; // pixels between the border of the pad and the middle of the dot
const label = ["clean", "backdoored"];
const screens = label.map((_, i) => surface(byId(`picture${i}`)));

function shown(place, aside, apart) {
  byId("where").textContent = `${place}${aside}. The two pictures differ by ${apart.toFixed(1)} %.`;
  byId("dot").style.left = `calc(${EDGE}px + ${walk.t} * (100% - ${2 * EDGE}px))`;
  byId("dot").style.top = `calc(${EDGE}px + ${(1 - walk.across) / 2} * (100% - ${2 * EDGE}px))`;
  screens.forEach(({ canvas }, i) => canvas.setAttribute("aria-label", `drawn by the ${label[i]} generator, ${place}${aside}`));
}

const walked = (on) => (byId("walk").textContent = on ? "Stop" : "Walk to the trigger");
byId("walk").addEventListener("click", startOrStop);
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
  const [x, y, by] = [walk.t, walk.across, event.shiftKey ? 0.1 : 0.02];
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
