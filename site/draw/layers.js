// The inside of a network: each layer's maps and kernels, and the arithmetic of the value that the reader has chosen.
"use strict";

/** A number as the page prints it. */
const shortly = (value, digits = 3) => value.toFixed(digits).replace("-", "\u2212");

const NOTES = {
  Conv2d: "each value is a window times a kernel, added up over the input's maps",
  BatchNorm2d: "each map shifted and scaled by what training found",
  ReLU: "negative values become 0",
  SiLU: "negative values are damped: x / (1 + exp(\u2212x))",
  MaxPool2d: "the largest of each window",
  AvgPool2d: "the mean of each window",
  Linear: "each value is a sum over all inputs, each times a weight",
  Flatten: "the same values in one row",
  Dropout: "drops values in training, and nothing here",
  LogSoftmax: "class scores become logarithms of probabilities",
};

/**
 * 511 colours as pixels, from one below zero over that of zero to one above; the page's style has the three. A pixel is
 * read as one number, whose lowest byte is red.
 */
function mapColours() {
  const style = getComputedStyle(document.documentElement);
  const [below, zero, above] = ["--below", "--zero", "--above"].map((name) =>
    style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16)));
  return Uint32Array.from({ length: 511 }, (_, i) => {
    const end = i < 255 ? below : above;
    const part = Math.abs(i - 255) / 255;
    const [red, green, blue] = zero.map((value, colour) => Math.round(value + (end[colour] - value) * part));
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
}

const LINE = (110 << 24) | 0x808080; // around a tile: grey that lets the page shine through

/** A canvas of tiles as it is between two paintings: its size set, its lines drawn. */
function prepareTiles(canvas, tiles) {
  sizeCanvas(canvas, tiles);
  const picture = new ImageData(canvas.width, canvas.height); // transparent between the tiles
  const pixels = new Uint32Array(picture.data.buffer);
  for (let tile = 0; tile < tiles.count; tile++) {
    const [left, top] = cornerOf(tile, tiles);
    for (let y = top - 1; y <= top + tiles.height * tiles.scale; y++) {
      const start = y * canvas.width + left - 1;
      pixels.fill(LINE, start, start + tiles.width * tiles.scale + 2);
    }
  }
  return { tiles, picture, pixels };
}

/**
 * Tiles of values on a canvas: `count` tiles of height x width, `columns` in a row, each value a square of `scale`
 * pixels. Around each tile is a line of one pixel, and between two of them `gap` pixels more. `prepared` is what the
 * last painting gave, if any; it is used again where the layout is the same.
 */
function paintTiles(canvas, values, tiles, most, colours, prepared = null) {
  const { count, height, width, scale } = tiles;
  const same = prepared && Object.keys(tiles).every((name) => tiles[name] === prepared.tiles[name]);
  const kept = same ? prepared : prepareTiles(canvas, tiles);
  const { pixels } = kept;
  const factor = 255 / most;
  for (let tile = 0, i = 0; tile < count; tile++) {
    const [left, top] = cornerOf(tile, tiles);
    for (let row = 0; row < height; row++) {
      const start = (top + row * scale) * canvas.width + left;
      for (let column = 0, to = start; column < width; column++, i++) {
        const colour = colours[Math.round(255 + values[i] * factor)];
        for (let x = 0; x < scale; x++) pixels[to++] = colour;
      }
      for (let y = 1; y < scale; y++) pixels.copyWithin(start + y * canvas.width, start, start + width * scale);
    }
  }
  canvas.getContext("2d").putImageData(kept.picture, 0, 0);
  return kept;
}

/** From one tile to the next, in pixels to the right and down. */
const stepsOf = ({ height, width, scale, gap }) => [width * scale + 2 + gap, height * scale + 2 + gap];

/** The pixel where a tile's values begin. */
function cornerOf(tile, tiles) {
  const [stepX, stepY] = stepsOf(tiles);
  return [(tile % tiles.columns) * stepX + 1, Math.floor(tile / tiles.columns) * stepY + 1];
}

function sizeCanvas(canvas, tiles) {
  const [stepX, stepY] = stepsOf(tiles);
  canvas.width = tiles.columns * stepX - tiles.gap;
  canvas.height = Math.ceil(tiles.count / tiles.columns) * stepY - tiles.gap;
}

function largestSize(values) {
  let most = 1e-12;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]));
  return most;
}

/** How a layer's maps are laid out in a room of so many pixels. */
function layOut([count, height, width], room) {
  const many = height * width === 1 && count > 64; // a long row of single values
  const scale = many ? 5 : Math.min(20, Math.max(2, Math.floor(56 / width)));
  const gap = many ? -1 : 2; // neighbours share their line
  const columns = Math.max(1, Math.min(count, Math.floor((room + gap) / (width * scale + 2 + gap))));
  return { count, height, width, columns, scale, gap };
}

/**
 * Shows a network's layers in `holder`. Gives `update(outputs)`, which paints the maps that are in view (null where
 * nothing is drawn), and `repaint()` for another theme or width.
 */
function showLayers(holder, network, networks, side) {
  let outputs = null;
  let chosen = null; // { index, place: [channel, row, column] }
  let colours = mapColours();
  const inView = new Set(); // indices of the layers that are painted at each change
  const painted = {}; // by index
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const index = Number(target.dataset.index);
      if (isIntersecting) inView.add(index);
      else inView.delete(index);
      if (isIntersecting) show(index);
    }
  }, { rootMargin: "200px" });

  const sections = network.layers.map((layer, index) => {
    const section = document.createElement("section");
    section.className = "layer";
    section.dataset.index = index;
    const name = `Layer ${index + 1}: ${layer.kind}`;
    section.innerHTML = `
      <h3>${name} <span class="shape">${layer.shape.join(" \u00d7 ")}</span></h3>
      <p class="small">${NOTES[layer.kind]}${settingsOf(layer, index)}</p>`;
    if (layer.kind === "Dropout" || layer.kind === "Flatten") return section;
    const canvas = document.createElement("canvas");
    canvas.className = "maps";
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `Maps of layer ${index + 1}, ${layer.kind}; arrow keys choose a value`);
    section.append(canvas);
    if (layer.kind === "Conv2d" || layer.kind === "Linear") section.append(kernelsOf(layer, index));
    canvas.addEventListener("click", (event) => choose(index, placeAt(index, event)));
    canvas.addEventListener("keydown", (event) => moveBy(index, event));
    watcher.observe(section);
    return section;
  });
  holder.replaceChildren(...sections);
  const roomOf = (index) => sections[index].clientWidth || 300;
  const canvases = sections.map((section) => section.querySelector(".maps"));
  canvases.forEach((canvas, index) => {
    if (canvas) sizeCanvas(canvas, layOut(network.layers[index].shape, roomOf(index)));
  });
  const arithmetic = document.createElement("div");
  arithmetic.className = "arithmetic";
  arithmetic.innerHTML = `<p class="value"></p><div class="how"></div>`;

  function settingsOf(layer, index) {
    if (layer.kind !== "Conv2d") return layer.kernel ? `; windows of ${layer.kernel} \u00d7 ${layer.kernel}` : "";
    const [inputs] = shapeInto(index);
    const own = layer.groups === inputs && inputs > 1 ? "; each map has a kernel of its own" : "";
    return `; kernels of ${layer.kernel} \u00d7 ${layer.kernel}, stride ${layer.stride}, padding ${layer.padding}${own}`;
  }

  function kernelsOf(layer, index) {
    const details = document.createElement("details");
    details.innerHTML = `<summary>Its ${layer.kind === "Linear" ? "weights" : "kernels"}</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="Kernels of layer ${index + 1}">
      <canvas role="img" aria-label="Kernels of layer ${index + 1}"></canvas></div><p class="small"></p>`;
    details.addEventListener("toggle", () => { if (details.open) paintKernels(layer, index, details); });
    return details;
  }

  /** Where a layer has too many kernels to be seen at once, those of the map that is chosen, or of the first. */
  function paintKernels(layer, index, details) {
    const [inputs, height, width] = shapeInto(index);
    const dense = layer.kind === "Linear";
    const size = layer.kernel || 1;
    const own = dense ? inputs * height * width : inputs / layer.groups;
    const single = own > 1 && own * layer.shape[0] * size * size > 3000;
    const output = chosen && chosen.index === index ? chosen.place[0] : 0;
    const [count, begin] = single ? [own, layer.weight + output * own * size * size] : [own * layer.shape[0], layer.weight];
    const values = network.weights.subarray(begin, begin + count * size * size);
    const tiles = dense && single
      ? { count: inputs, height, width, scale: 4, gap: 1 }
      : { count, height: size, width: size, scale: size === 1 ? 10 : 6, gap: size === 1 ? -1 : 1 };
    const most = largestSize(values);
    const room = Math.floor((details.clientWidth + tiles.gap) / stepsOf(tiles)[0]);
    tiles.columns = single || own === 1 ? Math.max(1, Math.min(tiles.count, room)) : own;
    paintTiles(details.querySelector("canvas"), values, tiles, most, colours);
    const those = dense ? "the weights" : "the kernels";
    const order = single
      ? `${those} of output ${output}, one for each input; choose a value of another to see its own`
      : own > 1 ? "a row for each output, a column for each input" : "one for each map";
    details.querySelector("p").textContent = `${order}; full colour is \u00b1${shortly(most)}`;
  }

  /** The shape of what a layer takes; for a dense layer that of the maps before they were put into one row. */
  function shapeInto(index) {
    let before = index - 1;
    if (network.layers[index].kind === "Linear" && before >= 0 && network.layers[before].kind === "Flatten") before--;
    return before < 0 ? networks.inputShape(side) : network.layers[before].shape;
  }

  function paint(index) {
    const canvas = canvases[index];
    if (!canvas) return;
    const layer = network.layers[index];
    const tiles = layOut(layer.shape, roomOf(index));
    const values = outputs ? outputs[index + 1] : new Float32Array(tiles.count * tiles.height * tiles.width);
    painted[index] = paintTiles(canvas, values, tiles, largestSize(values), colours, painted[index]);
    if (chosen) frame(index, canvas, tiles);
  }

  /** Frames the chosen value in its own layer, and the window that it looks at in the layer before. */
  function frame(index, canvas, tiles) {
    const [channel, row, column] = chosen.place;
    const layer = network.layers[chosen.index];
    let [top, left, size, maps] = [row, column, 1, [channel]];
    if (index === shownBefore(chosen.index)) {
      if (layer.kind === "Linear" || layer.kind === "LogSoftmax") return;
      if (layer.kernel) {
        size = layer.kernel;
        const [stride, padding] = [layer.stride ?? size, layer.padding ?? 0];
        [top, left] = [row * stride - padding, column * stride - padding];
      }
      if (layer.kind === "Conv2d") {
        const own = tiles.count / layer.groups;
        const first = Math.floor(channel / (layer.shape[0] / layer.groups)) * own;
        maps = Array.from({ length: own }, (_, i) => first + i);
      }
    } else if (index !== chosen.index) return;
    const context = canvas.getContext("2d");
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--frame");
    context.lineWidth = 2;
    const { scale, width, height } = tiles;
    for (const map of maps) {
      const [x, y] = cornerOf(map, tiles);
      const [fromX, fromY] = [Math.max(0, left), Math.max(0, top)];
      const [toX, toY] = [Math.min(width, left + size), Math.min(height, top + size)];
      context.strokeRect(x + fromX * scale, y + fromY * scale, (toX - fromX) * scale, (toY - fromY) * scale);
    }
  }

  /** The layer whose maps a layer takes; a dropout in between shows none. */
  function shownBefore(index) {
    let before = index - 1;
    while (before >= 0 && network.layers[before].kind === "Dropout") before--;
    return before;
  }

  function placeAt(index, event) {
    const canvas = canvases[index];
    const box = canvas.getBoundingClientRect();
    const tiles = layOut(network.layers[index].shape, roomOf(index));
    const { columns, scale, width, height, count } = tiles;
    const [stepX, stepY] = stepsOf(tiles);
    const [x, y] = [
      ((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height,
    ];
    const tileX = Math.min(columns - 1, Math.floor(x / stepX));
    const channel = Math.max(0, Math.min(count - 1, Math.floor(y / stepY) * columns + tileX));
    const [left, top] = cornerOf(channel, tiles);
    const within = (part, most) => Math.max(0, Math.min(most - 1, Math.floor(part / scale)));
    return [channel, within(y - top, height), within(x - left, width)];
  }

  function moveBy(index, event) {
    const [channels, height, width] = network.layers[index].shape;
    let [channel, row, column] = chosen && chosen.index === index
      ? chosen.place : [0, Math.floor(height / 2), Math.floor(width / 2)];
    if (chosen && chosen.index === index) {
      const single = height * width === 1; // then the arrow keys go from map to map
      const steps = {
        ArrowLeft: () => (single ? channel-- : column--), ArrowRight: () => (single ? channel++ : column++),
        ArrowUp: () => (single ? channel-- : row--), ArrowDown: () => (single ? channel++ : row++),
        PageUp: () => channel--, PageDown: () => channel++,
      };
      if (!(event.key in steps)) return;
      steps[event.key]();
    } else if (!/^(Arrow|Page|Enter| )/.test(event.key)) return;
    event.preventDefault();
    const within = (value, most) => Math.max(0, Math.min(most - 1, value));
    choose(index, [within(channel, channels), within(row, height), within(column, width)]);
  }

  function choose(index, place) {
    const before = chosen && chosen.index;
    chosen = { index, place };
    if (before !== index) canvases[index].after(arithmetic);
    explainChosen(true);
    for (const shown of inView) paint(shown);
    const kernels = sections[index].querySelector("details[open]");
    if (kernels) paintKernels(network.layers[index], index, kernels);
  }

  /** `spoken`: a screen reader is to say the value, as it is not while somebody draws. */
  function explainChosen(spoken) {
    if (!chosen) return;
    const [value, how] = arithmetic.children;
    const found = outputs && networks.explain(network, outputs, chosen.index, chosen.place, side);
    const words = `${nameOf(chosen, network)}: ${found ? shortly(found.value) : "nothing is drawn yet"}`;
    if (spoken || words !== value.textContent) value.setAttribute("aria-live", spoken ? "polite" : "off");
    value.textContent = words;
    const scrolled = how.querySelector(".parts")?.scrollTop ?? 0;
    how.innerHTML = found ? (ARITHMETIC[found.kind] || ARITHMETIC.other)(found) : "";
    const parts = how.querySelector(".parts");
    if (parts) parts.scrollTop = scrolled;
  }

  function show(index) {
    paint(index);
    if (chosen && chosen.index === index) explainChosen(false);
  }

  function update(others) {
    outputs = others;
    inView.forEach(show);
  }

  function repaint() {
    colours = mapColours();
    for (const index of inView) paint(index);
    for (const details of holder.querySelectorAll("details[open]")) {
      const index = Number(details.closest(".layer").dataset.index);
      paintKernels(network.layers[index], index, details);
    }
  }

  return { update, repaint, stop: () => watcher.disconnect() };
}

/** The name of the chosen value, as the page prints it; everything is counted from 0 but for the layers. */
function nameOf({ index, place: [channel, row, column] }, network) {
  const [, height, width] = network.layers[index].shape;
  const place = height * width === 1 ? `value ${channel}` : `map ${channel}, row ${row}, column ${column}`;
  return `Layer ${index + 1}, ${place}`;
}

/** Values of a square window as a small table; null is padding, and the marked one is in bold. */
function grid(values, marked = -1) {
  const size = Math.sqrt(values.length);
  const digits = innerWidth < 480 ? 2 : 3; // two windows have to fit on a phone
  const cell = (value, i) =>
    `<td class="${value === null ? "padding" : ""}${i === marked ? " marked" : ""}">${shortly(value ?? 0, digits)}</td>`;
  const rows = Array.from({ length: size }, (_, row) =>
    `<tr>${values.slice(row * size, (row + 1) * size).map((value, i) => cell(value, row * size + i)).join("")}</tr>`);
  return `<table class="grid" role="presentation">${rows.join("")}</table>`;
}

const inBrackets = (value) => (value < 0 ? `(${shortly(value)})` : shortly(value));

const ARITHMETIC = {
  Conv2d({ parts, bias, total }) {
    const single = parts[0].kernel.length === 1;
    const rows = parts.map((part) => `<tr><th scope="row">${part.channel}</th>
      <td>${single ? shortly(part.patch[0]) : grid(part.patch)}</td><td>\u00d7</td>
      <td>${single ? shortly(part.kernel[0]) : grid(part.kernel)}</td><td>=</td>
      <td class="sum">${shortly(part.sum)}</td></tr>`);
    if (bias !== null) rows.push(`<tr><th scope="row" colspan="5">bias</th><td class="sum">${shortly(bias)}</td></tr>`);
    const padding = parts.some((part) => part.patch.includes(null)) ? " Grey zeros are padding, beyond the map's edge." : "";
    return `<p class="small">${single ? "The value" : "Each value of the window"} of an input map times that of its
      kernel${single ? "" : ", the products added up"}.${padding}</p>
      <div class="parts" tabindex="0" role="region" aria-label="Products"><table class="${single ? "" : "windows"}">
      <thead><tr><th scope="col">map</th><th scope="col">${single ? "value" : "window"}</th><td></td>
      <th scope="col">kernel</th><td></td><th scope="col">sum</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>
      <p>All sums together: <span class="total">${shortly(total)}</span></p>`;
  },
  BatchNorm2d({ input, mean, variance, eps, weight, bias, total }) {
    return `<p>(value \u2212 mean) / \u221a(variance + ${eps}) \u00d7 weight + bias<br>
      = (${shortly(input)} \u2212 ${inBrackets(mean)}) / \u221a(${shortly(variance)} + ${eps}) \u00d7 ${inBrackets(weight)}
      + ${inBrackets(bias)}<br>= <span class="total">${shortly(total)}</span></p>
      <p class="small">Mean and variance are running averages from training.</p>`;
  },
  ReLU: ({ input, total }) => `<p>max(0, ${shortly(input)}) = <span class="total">${shortly(total)}</span></p>`,
  SiLU: ({ input, total }) => `<p>${shortly(input)} / (1 + exp(\u2212${inBrackets(input)})) =
    <span class="total">${shortly(total)}</span></p>`,
  MaxPool2d: ({ patch, total }) => `<p>The largest of</p>${grid(patch, patch.indexOf(total))}
    <p>is <span class="total">${shortly(total)}</span></p>`,
  AvgPool2d: ({ patch, total }) => `<p>The mean of ${patch.length} values</p><div class="parts" tabindex="0" role="region"
    aria-label="Values">${grid(patch)}</div><p>is <span class="total">${shortly(total)}</span></p>`,
  Linear({ parts, bias, total }) {
    const products = parts.map((part) => ({ ...part, product: part.input * part.weight }));
    products.sort((one, other) => Math.abs(other.product) - Math.abs(one.product));
    const rest = products.slice(20).reduce((sum, { product }) => sum + product, 0);
    const rows = products.slice(0, 20).map(({ channel, input, weight, product }) =>
      `<tr><th scope="row">${channel}</th><td>${shortly(input)}</td><td>\u00d7</td><td>${shortly(weight)}</td><td>=</td>
       <td class="sum">${shortly(product)}</td></tr>`);
    if (products.length > 20) {
      rows.push(`<tr><th scope="row" colspan="5">the other ${products.length - 20}</th><td class="sum">${shortly(rest)}</td></tr>`);
    }
    return `<p class="small">Each input times its weight, the largest products first.</p>
      <div class="parts" tabindex="0" role="region" aria-label="Products"><table><thead><tr><th scope="col">input</th>
      <th scope="col">value</th><td></td><th scope="col">weight</th><td></td><th scope="col">product</th></tr></thead>
      <tbody>${rows.join("")}<tr><th scope="row" colspan="5">bias</th><td class="sum">${shortly(bias)}</td></tr></tbody></table>
      </div><p>All together: <span class="total">${shortly(total)}</span></p>`;
  },
  LogSoftmax: ({ input, norm, total }) => `<p>score \u2212 log(sum of exp(score) over all classes)<br>
    = ${shortly(input)} \u2212 ${inBrackets(norm)} = <span class="total">${shortly(total)}</span></p>
    <p class="small">Its exponential is the probability: ${(100 * Math.exp(total)).toFixed(2)} %.</p>`,
  other: ({ total }) => `<p><span class="total">${shortly(total)}</span></p>`,
};
