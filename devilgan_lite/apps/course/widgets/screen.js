// Pictures side by side, as raw pixels: the browser enlarges them, so a frame stays a few kilobytes.
function figure(size) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.style.height = `${size}px`;
  const caption = document.createElement("figcaption");
  const whole = document.createElement("figure");
  whole.append(canvas, caption);
  return { whole, canvas, caption };
}

function render({ model, el }) {
  el.classList.add("devilgan-screen");
  const row = document.createElement("div");
  const note = document.createElement("p");
  el.append(row, note);
  let figures = [];

  function draw() {
    const { pixels, width, height, captions, alts, note: text } = model.get("frame");
    if (captions.length !== figures.length) {
      figures = captions.map(() => figure(model.get("size")));
      row.replaceChildren(...figures.map((one) => one.whole));
    }
    const bytes = 4 * width * height;
    figures.forEach(({ canvas, caption }, index) => {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const part = new Uint8ClampedArray(pixels.buffer, pixels.byteOffset + index * bytes, bytes);
      canvas.getContext("2d").putImageData(new ImageData(part, width, height), 0, 0);
      canvas.setAttribute("aria-label", alts[index]);
      caption.textContent = captions[index];
    });
    note.textContent = text;
  }

  model.on("change:frame", draw);
  draw();
  return () => model.off("change:frame", draw);
}

export default { render };
