// Computes a generator that lowering.py has written down: a list of operations on flat arrays, one latent at a time.
// Almost all time goes into convolutions, so these run in WebAssembly with SIMD: a kernel of 300 bytes, assembled below.
// Where a browser has none, a loop in JavaScript does the same.
const engine = (() => {
  "use strict";

  // ---- the kernel: four output channels at eight positions in a row, for all positions of a plane
  // out[c * plane + p] = sum over k of weights[4 k + c] * input[offsets[k] + p]; all addresses in bytes
  function assembled() {
    const number = (value) => { // signed LEB128
      const bytes = [];
      for (;;) {
        const byte = value & 127;
        value >>= 7;
        if ((value === 0 && !(byte & 64)) || (value === -1 && byte & 64)) return [...bytes, byte];
        bytes.push(byte | 128);
      }
    };
    const size = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...size(value >>> 7)]);
    const section = (id, content) => [id, ...size(content.length), ...content];
    const text = (word) => [word.length, ...new TextEncoder().encode(word)];
    const [IN, OFFSETS, WEIGHTS, OUT, COUNT, POSITIONS, PLANE, END, AT, W, K, SUMS] = [...Array(12).keys()];
    const [LEFT, RIGHT, SPLAT] = [SUMS + 8, SUMS + 9, SUMS + 10];
    const get = (name) => [0x20, name];
    const set = (name) => [0x21, name];
    const plus = (name, bytes) => [...get(name), 0x41, ...number(bytes), 0x6a, ...set(name)];
    const load = (offset) => [0xfd, 0x00, 2, ...size(offset)];
    const splat = (offset) => [0xfd, 0x09, 2, ...size(offset)];
    const store = [0xfd, 0x0b, 2, 0];
    const accumulate = (sum, a, b) => // mul, add
      [...get(sum), ...get(a), ...get(b), 0xfd, 0xe6, 0x01, 0xfd, 0xe4, 0x01, ...set(sum)];
    const zero = [0xfd, 0x0c, ...Array(16).fill(0)];
    const inner = [...get(IN), ...get(K), 0x28, 2, 0, 0x6a, ...set(AT), ...get(AT), ...load(0), ...set(LEFT)];
    inner.push(...get(AT), ...load(16), ...set(RIGHT));
    for (let c = 0; c < 4; c++) {
      inner.push(...get(W), ...splat(4 * c), ...set(SPLAT));
      inner.push(...accumulate(SUMS + 2 * c, SPLAT, LEFT), ...accumulate(SUMS + 2 * c + 1, SPLAT, RIGHT));
    }
    inner.push(...plus(W, 16), ...plus(K, 4), ...get(K), ...get(END), 0x49, 0x0d, 0); // lt_u, br_if
    const outer = [...get(OFFSETS), ...set(K), ...get(WEIGHTS), ...set(W)];
    for (let sum = SUMS; sum < SUMS + 8; sum++) outer.push(...zero, ...set(sum));
    outer.push(0x03, 0x40, ...inner, 0x0b, ...get(OUT), ...set(AT)); // loop ... end
    for (let c = 0; c < 4; c++) {
      outer.push(...get(AT), ...get(SUMS + 2 * c), ...store);
      outer.push(...get(AT), 0x41, 16, 0x6a, ...get(SUMS + 2 * c + 1), ...store);
      outer.push(...get(AT), ...get(PLANE), 0x6a, ...set(AT));
    }
    outer.push(...plus(IN, 32), ...plus(OUT, 32), ...plus(POSITIONS, -8), ...get(POSITIONS), 0x0d, 0);
    const start = [...get(OFFSETS), ...get(COUNT), 0x41, 2, 0x74, 0x6a, ...set(END)];
    const body = [2, 4, 0x7f, 11, 0x7b, ...start, 0x03, 0x40, ...outer, 0x0b, 0x0b]; // locals: 4 i32, 11 v128
    return new Uint8Array([
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, [1, 0x60, 7, ...Array(7).fill(0x7f), 0]),
      ...section(2, [1, ...text("m"), ...text("m"), 2, 0, 0]),
      ...section(3, [1, 0]),
      ...section(7, [1, ...text("k"), 0, 0]),
      ...section(10, [1, ...size(body.length), ...body]),
    ]);
  }

  function plainKernel(buffer) {
    const [values, whole] = [new Float32Array(buffer), new Int32Array(buffer)];
    return (input, offsets, weights, out, count, positions, plane) => {
      [input, offsets, weights, out, plane] = [input >> 2, offsets >> 2, weights >> 2, out >> 2, plane >> 2];
      for (let p = 0; p < positions; p += 2) {
        let [a0, a1, b0, b1, c0, c1, d0, d1] = [0, 0, 0, 0, 0, 0, 0, 0];
        for (let k = 0, w = weights; k < count; k++, w += 4) {
          const at = input + p + (whole[offsets + k] >> 2);
          const [left, right] = [values[at], values[at + 1]];
          a0 += values[w] * left, a1 += values[w] * right;
          b0 += values[w + 1] * left, b1 += values[w + 1] * right;
          c0 += values[w + 2] * left, c1 += values[w + 2] * right;
          d0 += values[w + 3] * left, d1 += values[w + 3] * right;
        }
        let at = out + p;
        values[at] = a0, values[at + 1] = a1, at += plane;
        values[at] = b0, values[at + 1] = b1, at += plane;
        values[at] = c0, values[at + 1] = c1, at += plane;
        values[at] = d0, values[at + 1] = d1;
      }
    };
  }

  // ---- weights: base64 -> float32; "w", "h": 16-bit whole numbers, each row with a scale, a float32 or a bfloat16
  function unpacked(text, tensors) {
    const letters = atob(text.trim()), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
    return tensors.map(([kind, offset, count, rows]) => {
      if (kind === "f") return new Float32Array(bytes.buffer, offset, count);
      const halves = () => Uint32Array.from(new Uint16Array(bytes.buffer, offset, rows), (half) => half << 16).buffer;
      const scales = kind === "h" ? new Float32Array(halves()) : new Float32Array(bytes.buffer, offset, rows);
      const numbers = new Int16Array(bytes.buffer, offset + (kind === "h" ? 2 : 4) * rows, count);
      return Float32Array.from(numbers, (value, i) => value * scales[Math.floor((i * rows) / count)]);
    });
  }

  const UNARY = {
    ...Object.fromEntries(["tanh", "exp", "sqrt", "abs", "sin", "cos"].map((name) => [name, () => Math[name]])),
    relu: () => (x) => (x > 0 ? x : 0),
    leaky_relu: (slope = 0.01) => (x) => (x > 0 ? x : slope * x),
    elu: (alpha = 1) => (x) => (x > 0 ? x : alpha * Math.expm1(x)),
    sigmoid: () => (x) => 1 / (1 + Math.exp(-x)),
    silu: () => (x) => x / (1 + Math.exp(-x)),
    softplus: () => (x) => (x > 20 ? x : Math.log1p(Math.exp(x))),
    rsqrt: () => (x) => 1 / Math.sqrt(x),
    square: () => (x) => x * x,
    neg: () => (x) => -x,
    reciprocal: () => (x) => 1 / x,
    clamp: (low, high) => (x) => Math.min(high ?? Infinity, Math.max(low ?? -Infinity, x)),
  };
  const BINARY = {
    add: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y, div: (x, y) => x / y,
    pow: Math.pow, maximum: Math.max, minimum: Math.min,
  };

  // The models of a page, as functions from a latent to a picture.
  function load(page, text, simd = true) {
    const tensors = unpacked(text, page.tensors);
    const convolutions = page.models.flatMap((model) => model.steps.filter((step) => step.op === "conv"));
    let bytes = 1024;
    const reserve = (count) => (bytes += (4 * count + 16) & ~15) - ((4 * count + 16) & ~15);
    for (const step of convolutions) layOut(step, reserve);
    const out = reserve(Math.max(4, ...convolutions.map((step) => step.blocks * 4 * step.positions)));
    const pages = Math.ceil(bytes / 65536);
    let buffer, kernel, fast = simd;
    try {
      if (!simd) throw new Error("not wanted");
      const memory = new WebAssembly.Memory({ initial: pages });
      kernel = new WebAssembly.Instance(new WebAssembly.Module(assembled()), { m: { m: memory } }).exports.k;
      buffer = memory.buffer;
    } catch { // an old browser, or one that is locked down
      [buffer, fast] = [new ArrayBuffer(65536 * pages), false];
      kernel = plainKernel(buffer);
    }
    const memory = { values: new Float32Array(buffer), whole: new Int32Array(buffer), kernel, out };
    return { fast, models: page.models.map((model) => compiled(model, tensors, memory)) };
  }

  // The input of a convolution has zeros around it. Rows share theirs, so that all positions lie in one line.
  function layOut(step, reserve) {
    const [channels, height, width] = step.size, [rows, columns] = step.grid;
    const taps = step.phases.flatMap((phase) => phase[2]);
    const [dy, dx] = [2, 3].map((axis) => taps.map((tap) => tap[axis]));
    const above = Math.max(0, -Math.min(...dy)), left = Math.max(0, -Math.min(...dx));
    const below = Math.max(0, Math.max(...dy) + rows - height), right = Math.max(0, Math.max(...dx) + columns - width);
    step.stride = Math.max(width + Math.max(left, right), columns);
    step.plane = (above + height + below) * step.stride + left;
    step.first = above * step.stride + left; // of the first number of a channel
    step.positions = ((rows - 1) * step.stride + columns + 7) & ~7;
    step.blocks = Math.ceil(step.made[0] / 4);
    step.input = reserve(channels * step.plane + 2 * step.stride + 16);
    step.packed = step.phases.map((phase) => {
      const count = channels * phase[2].length;
      return { count, offsets: reserve(count), weights: reserve(4 * count * step.blocks) };
    });
  }

  function pack(step, weight, memory) {
    const [channels] = step.size, [outputs] = step.made, [high, wide] = step.kernel;
    step.phases.forEach(([, , taps], index) => {
      const { count, offsets, weights } = step.packed[index];
      for (let c = 0, k = 0; c < channels; c++)
        for (const [ky, kx, dy, dx] of taps) {
          memory.whole[(offsets >> 2) + k] = 4 * (c * step.plane + step.first + dy * step.stride + dx);
          for (let o = 0; o < outputs; o++) {
            const at = step.transposed ? c * outputs + o : o * channels + c;
            memory.values[(weights >> 2) + 4 * ((o >> 2) * count + k) + (o & 3)] = weight[(at * high + ky) * wide + kx];
          }
          k++;
        }
    });
  }

  const at = (values, channel, otherwise) => (values === null ? otherwise : values[values.length === 1 ? 0 : channel]);

  // A channel to its place among zeros.
  function spread(x, from, values, to, height, width, stride, factor) {
    for (let y = 0; y < height; y++, to += stride - width)
      for (let i = 0; i < width; i++) values[to++] = x[from++] * factor;
  }

  // A channel of sums to every few places of the output. The rectifier has no branch, which would be guessed wrong.
  function collect(values, from, stride, made, to, down, along, height, width, scale, shift, slope, gain) {
    const [linear, bent] = [(gain * (1 + slope)) / 2, (gain * (1 - slope)) / 2];
    for (let y = 0; y < height; y++, from += stride, to += down)
      for (let i = 0, target = to; i < width; i++, target += along) {
        const sum = values[from + i] * scale + shift;
        made[target] = linear * sum + bent * Math.abs(sum);
      }
  }

  // One function for each operation; what it reads and writes is looked up once.
  const BUILD = {
    linear(step, value, made) {
      const x = value(step.x), w = value(step.w), b = value(step.b), { rows, inputs, outputs } = step;
      return () => {
        for (let r = 0; r < rows; r++)
          for (let o = 0; o < outputs; o++) {
            let sum = b === null ? 0 : b[o];
            for (let i = 0, at = o * inputs, from = r * inputs; i < inputs; i++) sum += w[at + i] * x[from + i];
            made[r * outputs + o] = sum;
          }
      };
    },
    conv(step, value, made, memory) {
      const x = value(step.x), pre = value(step.pre), scale = value(step.scale), shift = value(step.shift);
      const [channels, height, width] = step.size, [outputs, high, wide] = step.made, [stepY, stepX] = step.step;
      const [rows, columns] = step.grid, { values, kernel } = memory, { slope, gain } = step;
      pack(step, value(step.w), memory);
      const laid = (step.input >> 2) + step.first, [endY, endX] = [[], []];
      for (const [phaseY, phaseX] of step.phases) {
        endY.push(Math.min(rows, Math.ceil((high - phaseY) / stepY)));
        endX.push(Math.min(columns, Math.ceil((wide - phaseX) / stepX)));
      }
      return () => {
        for (let c = 0; c < channels; c++)
          spread(x, c * height * width, values, laid + c * step.plane, height, width, step.stride, at(pre, c, 1));
        for (let index = 0; index < step.phases.length; index++) {
          const { count, offsets, weights } = step.packed[index], [phaseY, phaseX] = step.phases[index];
          for (let block = 0; block < step.blocks; block++)
            kernel(step.input, offsets, weights + 16 * block * count, memory.out + 16 * block * step.positions, count,
              step.positions, 4 * step.positions);
          for (let o = 0; o < outputs; o++) {
            const to = (o * high + phaseY) * wide + phaseX, from = (memory.out >> 2) + o * step.positions;
            collect(values, from, step.stride, made, to, stepY * wide, stepX, endY[index], endX[index],
              at(scale, o, 1), at(shift, o, 0), slope, gain);
          }
        }
      };
    },
    binary(step, value, made) {
      const a = value(step.a), b = value(step.b), f = BINARY[step.name], [ai, an] = step.an, [bi, bn] = step.bn;
      if (ai === 1 && an === made.length && bi === 1 && bn === made.length && step.name === "add")
        return () => { for (let i = 0; i < made.length; i++) made[i] = a[i] + b[i]; };
      const of = (inner, count) => Int32Array.from(made, (_, i) => Math.floor(i / inner) % count);
      const [left, right] = [of(ai, an), of(bi, bn)];
      return () => { for (let i = 0; i < made.length; i++) made[i] = f(a[left[i]], b[right[i]]); };
    },
    unary(step, value, made) {
      const x = value(step.x), f = UNARY[step.name](...step.settings);
      return () => { for (let i = 0; i < made.length; i++) made[i] = f(x[i]); };
    },
    reduce(step, value, made) {
      const x = value(step.x), { count, inner } = step;
      const each = step.name === "norm" ? (v) => v * v : (v) => v;
      const end = { sum: (v) => v, mean: (v) => v / count, norm: Math.sqrt }[step.name];
      return () => {
        for (let i = 0; i < made.length; i++) {
          let sum = 0;
          for (let k = 0, at = Math.floor(i / inner) * count * inner + (i % inner); k < count; k++, at += inner)
            sum += each(x[at]);
          made[i] = end(sum);
        }
      };
    },
    resize(step, value, made) { // between two rows and two columns; nearest has a share of 0
      const x = value(step.x), { planes, size: [height, width] } = step, [top, bottom, down] = step.rows;
      const [left, right, along] = step.columns;
      return () => {
        for (let c = 0, at = 0; c < planes; c++)
          for (let y = 0; y < top.length; y++) {
            const [above, below] = [(c * height + top[y]) * width, (c * height + bottom[y]) * width];
            for (let i = 0; i < left.length; i++) {
              const first = x[above + left[i]] + along[i] * (x[above + right[i]] - x[above + left[i]]);
              const second = x[below + left[i]] + along[i] * (x[below + right[i]] - x[below + left[i]]);
              made[at++] = first + down[y] * (second - first);
            }
          }
      };
    },
    gather(step, value, made) {
      const x = value(step.x), index = value(step.index);
      return () => { for (let i = 0; i < made.length; i++) made[i] = index[i] < 0 ? 0 : x[index[i]]; };
    },
    concat(step, value, made) {
      const parts = step.parts.map(value);
      return () => { for (let i = 0, at = 0; i < parts.length; at += parts[i++].length) made.set(parts[i], at); };
    },
  };

  function compiled(model, tensors, memory) {
    const values = [new Float32Array(model.latent)];
    // what a step reads: null, a number, {t: a tensor of the file}, {v: what an earlier step made}
    const value = (one) =>
      one === null ? null : typeof one === "number" ? Float32Array.of(one) : "t" in one ? tensors[one.t] : values[one.v];
    const calls = model.steps.map((step) => {
      values[step.out] = new Float32Array(step.length);
      return BUILD[step.op](step, value, values[step.out], memory);
    });
    const result = value(model.result);
    return (z) => {
      values[0].set(z);
      for (const call of calls) call();
      return result;
    };
  }

  return { load };
})();
if (typeof module !== "undefined") module.exports = engine;
