// The pad of common/lesson/pad.py: strokes go to Python, its image, probabilities and maps come back. `inkPad` is in ink.js.

const PAD = 280; // CSS pixels
const PAUSE = 60; // milliseconds between two messages while a stroke is drawn

function render({ model, el }) {
  el.innerHTML = `
    <div class="pad">
      <div class="pad-left">
        <canvas class="pad-ink" width="${2 * PAD}" height="${2 * PAD}" tabindex="0" role="img"
          aria-label="Drawing pad: draw a digit with the mouse, a pen, a finger, or the arrow keys; space puts the pen down"></canvas>
        <div><button class="pad-undo">Undo</button> <button class="pad-clear">Clear</button></div>
      </div>
      <div><canvas class="pad-seen" width="28" height="28" role="img" aria-label="The image that the network sees"></canvas>
        <div class="pad-note">what the network sees</div></div>
      <div class="pad-bars"></div>
      <div class="pad-maps"></div>
      <div class="pad-said" role="status" aria-live="polite"></div>
    </div>`;
  const find = (name) => el.querySelector(name);
  let strokes = [];
  let sent = 0;
  let waiting = null;

  find(".pad-bars").innerHTML = Array.from({ length: 10 }, (_, digit) =>
    `<div class="pad-row"><span>${digit}</span><span class="pad-track"><span class="pad-bar"></span></span>
     <span class="pad-percent"></span></div>`).join("");

  function send() {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      sent = performance.now();
      model.set("strokes", strokes.map((stroke) => stroke.map((point) => point.slice())));
      model.save_changes();
    }, Math.max(0, PAUSE - (performance.now() - sent)));
  }

  const ink = inkPad(find(".pad-ink"), { changed: (drawn) => { strokes = drawn; send(); } });
  find(".pad-undo").addEventListener("click", ink.undo);
  find(".pad-clear").addEventListener("click", ink.clear);

  function paint(canvas, bytes, side) { // dark ink on white, as the course's figures show it
    canvas.width = canvas.height = side;
    const picture = new ImageData(side, side);
    for (let i = 0; i < side * side; i++) {
      picture.data.set([255 - bytes[i], 255 - bytes[i], 255 - bytes[i], 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  function show() {
    const answer = model.get("answer");
    const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    paint(find(".pad-seen"), bytes(answer.image), 28);
    find(".pad-said").textContent = answer.said;
    el.querySelectorAll(".pad-row").forEach((row, digit) => {
      const percent = 100 * (answer.probabilities[digit] ?? 0);
      row.querySelector(".pad-bar").style.width = `${percent}%`;
      row.querySelector(".pad-percent").textContent = answer.probabilities.length ? `${percent.toFixed(1)} %` : "";
      row.classList.toggle("pad-best", answer.read === digit);
    });
    const maps = find(".pad-maps");
    maps.replaceChildren(...answer.maps.map((map, number) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `feature map ${number}`);
      paint(canvas, bytes(map), answer.side);
      return canvas;
    }));
  }

  model.on("change:answer", show);
  show();
  return () => model.off("change:answer", show);
}

export default { render };
