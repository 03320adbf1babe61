// A plane to walk in with pointer or arrow keys. It also drives the animation: x is a function of the clock, so a closed
// tab drives nothing, and two tabs on one kernel agree.
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function render({ model, el }) {
  el.classList.add("devilgan-pad-frame");
  const pad = document.createElement("div");
  pad.className = "devilgan-pad";
  pad.style.width = pad.style.height = `${model.get("size")}px`;
  pad.tabIndex = 0;
  pad.setAttribute("role", "application");
  pad.setAttribute("aria-roledescription", "two-dimensional slider");
  pad.setAttribute("data-lm-suppress-shortcuts", "true"); // else JupyterLab moves to another cell on an arrow key
  const dot = document.createElement("div");
  dot.className = "devilgan-dot";
  const words = ["left", "right", "top", "bottom"].map((side) => {
    const word = document.createElement("span");
    word.className = `devilgan-${side}`;
    word.textContent = model.get("words")[side];
    return word;
  });
  const spoken = document.createElement("div");
  spoken.className = "devilgan-spoken";
  spoken.setAttribute("aria-live", "polite");
  pad.append(dot, ...words);
  el.append(pad, spoken);

  const say = () => `${Math.round(100 * model.get("x"))} percent to ${model.get("words").right}, ${Math.round(100 * model.get("y"))} percent aside`;

  function place() {
    dot.style.left = `${100 * model.get("x")}%`;
    dot.style.top = `${50 - 50 * model.get("y")}%`;
    pad.setAttribute("aria-label", `${model.get("label")} Now ${say()}.`);
  }

  function move(x, y) {
    model.set({ x: clamp(x, 0, 1), y: clamp(y, -1, 1), animating: false });
    model.save_changes();
  }

  function toPointer(event) {
    const box = pad.getBoundingClientRect();
    move((event.clientX - box.left) / box.width, 1 - (2 * (event.clientY - box.top)) / box.height);
  }
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    pad.focus({ preventScroll: true });
    toPointer(event);
  });
  pad.addEventListener("pointermove", (event) => {
    if (pad.hasPointerCapture(event.pointerId)) toPointer(event);
  });

  pad.addEventListener("keydown", (event) => {
    const [x, y] = [model.get("x"), model.get("y")];
    const step = event.shiftKey ? 0.1 : 0.02;
    const there = {
      ArrowRight: [x + step, y],
      ArrowLeft: [x - step, y],
      ArrowUp: [x, y + step],
      ArrowDown: [x, y - step],
      Home: [0, 0],
      End: [1, 0],
    }[event.key];
    if (!there) return;
    event.preventDefault();
    event.stopPropagation();
    move(...there);
  });
  pad.addEventListener("keyup", () => (spoken.textContent = say()));

  let pending = 0;
  function tick() {
    pending = 0;
    if (!model.get("animating")) return;
    const turns = (Date.now() / 1000 - model.get("started")) / model.get("period");
    model.set("x", 1 - Math.abs(1 - 2 * (turns - Math.floor(turns)))); // there and back, at constant speed
    model.save_changes();
    pending = requestAnimationFrame(tick);
  }
  const start = () => (pending = pending || requestAnimationFrame(tick));

  model.on("change:x change:y", place);
  model.on("change:animating", start);
  place();
  start();
  return () => {
    cancelAnimationFrame(pending);
    model.off("change:x change:y", place);
    model.off("change:animating", start);
  };
}

export default { render };
