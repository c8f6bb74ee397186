// The page "Draw a digit": from the pad, the examples and the sliders to the answer of the chosen network.
"use strict";

const course = window.course; // networks.js
const networks = defineNetworks(); // for the arithmetic; the reader has its own
const reader = startReader(course);
const find = (id) => document.getElementById(id);
const REST = 150; // milliseconds without a change after which the other networks read the drawing too
const LARGE = 1e6; // bytes above which a network is loaded only when it is asked for by name

const SLIDERS = [
  { name: "right", label: "Shift right", low: -8, high: 8, step: 0.5, start: 0, unit: "pixels" },
  { name: "down", label: "Shift down", low: -8, high: 8, step: 0.5, start: 0, unit: "pixels" },
  { name: "turn", label: "Turn right", low: -180, high: 180, step: 5, start: 0, unit: "degrees" },
  { name: "pen", label: "Width of the pen", low: 1, high: 6, step: 0.1, start: course.pen, unit: "pixels" },
];

const percent = (part) => `${(100 * part).toFixed(1)} %`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

let chosen = null; // the network that is read and shown
let layers = null; // its layers on the page
let view = 0; // which of its views the maps show
let image = null; // what is read: bytes, or null while the pad is blank
let version = 0; // counts the images
let answered = -1; // the version that the page shows
let changedAt = 0;
let busy = false;

// The drawing.

function moves() {
  return Object.fromEntries(SLIDERS.map(({ name }) => [name, Number(find(name).value)]));
}

/** The image of the drawing, or null and why there is none. */
function imageOf(strokes) {
  if (!strokes.some((stroke) => stroke.length)) return [null, "The pad is blank: draw a digit."];
  if (strokes.reduce((sum, stroke) => sum + stroke.length, 0) > course.mostPoints) {
    return [null, `A drawing may have ${course.mostPoints.toLocaleString("en")} points. Undo a stroke, or clear the pad.`];
  }
  const { pen, ...way } = moves();
  const lines = placeLines(strokes, pen, course);
  const moved = way.turn || way.right || way.down ? moveLines(lines, way, course.side) : lines;
  const bytes = paintLines(moved, pen, course.side);
  return bytes.some(Boolean) ? [bytes, ""] : [null, "The digit has left the image. Move it back."];
}

let frameAsked = false;
function changed() {
  if (frameAsked) return;
  frameAsked = true;
  requestAnimationFrame(() => {
    frameAsked = false;
    const [bytes, refusal] = imageOf(ink.strokes());
    image = bytes;
    version++;
    changedAt = performance.now();
    paintSeen();
    if (!image) tellNothing(refusal);
    work();
  });
}

function paintSeen() {
  const style = getComputedStyle(document.documentElement);
  const [zero, full] = ["--zero", "--ink"].map((name) =>
    style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16)));
  const picture = new ImageData(course.side, course.side);
  for (let i = 0; i < course.side ** 2; i++) {
    const part = image ? image[i] / 255 : 0;
    picture.data.set([...zero.map((value, colour) => value + (full[colour] - value) * part), 255], 4 * i);
  }
  find("seen").getContext("2d").putImageData(picture, 0, 0);
}

// The reading: one request at a time, always of the newest drawing, and first of the chosen network.

async function work() {
  if (busy) return;
  busy = true;
  while (image && chosen) {
    const [network, now] = [chosen, version];
    if (answered !== now) {
      const { logProbabilities, outputs, took } = await reader.read(network, image, view);
      if (network === chosen && image) {
        answered = now;
        tell(logProbabilities);
        find("took").textContent = `Read in ${took.toFixed(1)} milliseconds on this device.`;
        tellRow(network, logProbabilities, now);
        layers.update(outputs);
      }
      continue;
    }
    const rested = performance.now() - changedAt;
    if (rested < REST) {
      setTimeout(work, REST - rested);
      break;
    }
    const next = course.networks.find((one) => one.weights && one.shown !== version);
    if (!next) break;
    tellRow(next, (await reader.read(next, image, null)).logProbabilities, now);
  }
  busy = false;
}

function bestOf(logProbabilities) {
  const best = logProbabilities.indexOf(Math.max(...logProbabilities));
  return { best, sure: Math.exp(logProbabilities[best]), name: best < 10 ? String(best) : "no digit" };
}

function tell(logProbabilities) {
  const { best, sure, name } = bestOf(logProbabilities);
  say(sure >= course.unsure ? `It reads ${name}, with ${percent(sure)}.` : `It is not sure: ${name}, with ${percent(sure)}.`);
  const parts = Array.from(logProbabilities.slice(0, 10), Math.exp);
  if (logProbabilities.length > 10) parts.push(Math.max(0, 1 - parts.reduce((sum, part) => sum + part, 0)));
  [...find("bars").children].forEach((row, i) => {
    row.querySelector(".bar").style.width = `${100 * parts[i]}%`;
    row.querySelector(".percent").textContent = percent(parts[i]);
    row.classList.toggle("best", i === best);
  });
}

function tellNothing(refusal) {
  say(refusal);
  find("took").textContent = "";
  for (const row of find("bars").children) {
    row.querySelector(".bar").style.width = 0;
    row.querySelector(".percent").textContent = "";
    row.classList.remove("best");
  }
  if (layers) layers.update(null);
  for (const network of course.networks) tellRow(network, null);
}

let speaking = null;
/** Says it at once to the eye, and to a screen reader when the hand rests. */
function say(words) {
  find("said").textContent = words;
  clearTimeout(speaking);
  speaking = setTimeout(() => { find("spoken").textContent = words; }, 600);
}

// The networks.

const titleOf = ({ title, parameters }) => `${title} (${parameters.toLocaleString("en")} parameters)`;

/** Loads a network's weights, once. */
function load(network) {
  network.loading ||= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = network.file;
    script.onload = () => {
      network.weights = networks.decode(window.weights[network.name]);
      resolve(network);
    };
    script.onerror = () => {
      network.loading = null;
      script.remove();
      reject(new Error(`The weights of ${network.title} could not be loaded. Look at the connection and choose it again.`));
    };
    document.head.append(script);
  });
  return network.loading;
}

async function choose(name) {
  const network = course.networks.find((one) => one.name === name);
  find("network").value = name;
  find("about").textContent = network.weights ? "" : `Loading ${megabytes(network.bytes)} ...`;
  try {
    await load(network);
  } catch (error) {
    find("about").textContent = error.message;
    return;
  }
  if (find("network").value !== name) return; // another was chosen meanwhile
  chosen = network;
  view = 0;
  answered = -1;
  if (layers) layers.stop();
  layers = showLayers(find("layers"), network, networks, course.side);
  tellAbout(network);
  makeBars(network.layers[network.layers.length - 1].shape[0]);
  if (image) work();
  else changed();
}

function tellAbout(network) {
  const { lesson, accuracy, seeds, views, layers: all } = network;
  const about = find("about");
  about.textContent = `${network.parameters.toLocaleString("en")} parameters. Test accuracy ${accuracy.toFixed(2)} %, mean of `
    + `${seeds} seeds. `;
  if (lesson) {
    const link = document.createElement("a");
    link.href = `../${lesson}`;
    link.textContent = "Its lesson";
    about.append(link);
  }
  if (all[all.length - 1].shape[0] > 10) about.append(" It has 16 outputs, and the last six stand for no digit.");
  find("view-choice").hidden = !views.length;
  find("view-count").textContent = views.length;
  find("view").replaceChildren(...views.map(({ said }, i) => new Option(said, i)));
}

function makeBars(outputs) {
  const names = [...Array(10).keys(), ...(outputs > 10 ? ["none"] : [])];
  find("bars").innerHTML = names.map((name) =>
    `<li><span class="digit">${name}</span><span class="track"><span class="bar"></span></span><span class="percent"></span></li>`,
  ).join("");
}

// The table of all networks.

function makeTable() {
  find("compare").tBodies[0].replaceChildren(...course.networks.map((network) => {
    const row = document.createElement("tr");
    row.innerHTML = `<th scope="row"></th><td><span class="reads">not loaded</span> <span class="sure"></span></td>
      <td class="number">${network.parameters.toLocaleString("en")}</td>
      <td class="number">${network.accuracy.toFixed(2)} %</td>`;
    row.cells[0].textContent = network.title;
    network.row = row;
    return row;
  }));
}

function tellRow(network, logProbabilities, of = -1) {
  if (!network.weights) return;
  network.shown = of;
  const { name, sure } = logProbabilities && image ? bestOf(logProbabilities) : { name: "nothing", sure: null };
  network.row.querySelector(".reads").textContent = name;
  network.row.querySelector(".reads").classList.toggle("known", sure !== null);
  network.row.querySelector(".sure").textContent = sure === null ? "" : percent(sure);
}

function offer(button, some, words) {
  const left = () => some.filter(({ weights }) => !weights);
  const bytes = () => left().reduce((sum, network) => sum + network.bytes, 0);
  const label = () => {
    button.hidden = !left().length;
    button.textContent = `${words} (${megabytes(bytes())})`;
  };
  label();
  button.addEventListener("click", async () => {
    button.disabled = true;
    const loaded = await Promise.allSettled(left().map(load));
    const failed = loaded.find(({ status }) => status === "rejected");
    label();
    if (failed) button.textContent = failed.reason.message;
    button.disabled = false;
    for (const network of some) if (network.shown === undefined) tellRow(network, null);
    work();
  });
}

// The page's controls.

function makeSliders() {
  for (const { name, label, low, high, step, start, unit } of SLIDERS) {
    const holder = document.createElement("p");
    holder.className = "slider";
    holder.innerHTML = `<label for="${name}">${label}</label><output for="${name}"></output>
      <input type="range" id="${name}" min="${low}" max="${high}" step="${step}" value="${start}">`;
    find("sliders").append(holder);
    const input = holder.querySelector("input");
    input.addEventListener("input", () => {
      holder.querySelector("output").textContent = `${Number(input.value)} ${unit}`;
      input.setAttribute("aria-valuetext", `${Number(input.value)} ${unit}`);
      changed();
    });
    input.dispatchEvent(new Event("input"));
  }
  find("reset").addEventListener("click", () => {
    for (const { name, start } of SLIDERS) {
      find(name).value = start;
      find(name).dispatchEvent(new Event("input"));
    }
  });
}

function padColours() {
  const style = getComputedStyle(document.documentElement);
  return ["--zero", "--ink", "--above"].map((name) => style.getPropertyValue(name).trim());
}

function repaint() {
  ink.repaint();
  paintSeen();
  if (layers) layers.repaint();
}

function makeTheme() {
  const { dataset } = document.documentElement;
  const select = find("theme");
  select.value = ["light", "dark"].includes(dataset.theme) ? dataset.theme : "auto";
  select.addEventListener("change", () => {
    dataset.theme = select.value;
    try { localStorage.setItem("mode", select.value); } catch { /* not allowed: the choice holds for this page */ }
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  let resized = null;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(repaint, 100); });
}

const ink = inkPad(find("pad"), { changed, colours: padColours });
find("undo").addEventListener("click", ink.undo);
find("clear").addEventListener("click", ink.clear);
exampleDigits.forEach((strokes, digit) => {
  const button = document.createElement("button");
  button.textContent = digit;
  button.setAttribute("aria-label", `A drawn ${digit}`);
  button.addEventListener("click", () => ink.replace(strokes.map((stroke) => stroke.map((point) => [...point]))));
  find("examples").append(button);
});
find("network").replaceChildren(...course.networks.map((network) => new Option(titleOf(network), network.name)));
find("network").addEventListener("change", (event) => choose(event.target.value));
find("view").addEventListener("change", (event) => {
  view = Number(event.target.value);
  answered = -1;
  work();
});
find("background").textContent = shortly((0 - course.mean) / course.std);
find("full-ink").textContent = shortly((1 - course.mean) / course.std);
makeTheme();
makeTable();
makeSliders();
offer(find("load-small"), course.networks.filter(({ bytes }) => bytes < LARGE), "Let the small ones read too");
offer(find("load-large"), course.networks.filter(({ bytes }) => bytes >= LARGE), "Let the largest read too");
choose(course.first);
