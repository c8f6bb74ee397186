// The pad of common/lesson/pad.py: strokes go to Python, its image, probabilities and maps come back.

const PAD = 280; // CSS pixels
const PAUSE = 60; // milliseconds between two messages while a stroke is drawn

function render({ model, el }) {
  el.innerHTML = `
    <div class="pad">
      <div class="pad-left">
        <canvas class="pad-ink" width="${2 * PAD}" height="${2 * PAD}" tabindex="0" role="img"
          aria-label="Drawing pad: draw a digit with the mouse, a pen or a finger"></canvas>
        <div><button class="pad-undo">Undo</button> <button class="pad-clear">Clear</button></div>
      </div>
      <div><canvas class="pad-seen" width="28" height="28" role="img" aria-label="The image that the network sees"></canvas>
        <div class="pad-note">what the network sees</div></div>
      <div class="pad-bars"></div>
      <div class="pad-maps"></div>
      <div class="pad-said" role="status" aria-live="polite"></div>
    </div>`;
  const find = (name) => el.querySelector(name);
  const ink = find(".pad-ink");
  const pen = ink.getContext("2d");
  let strokes = [];
  let drawing = false;
  let sent = 0;
  let waiting = null;

  find(".pad-bars").innerHTML = Array.from({ length: 10 }, (_, digit) =>
    `<div class="pad-row"><span>${digit}</span><span class="pad-track"><span class="pad-bar"></span></span>
     <span class="pad-percent"></span></div>`).join("");

  function repaint() {
    pen.fillStyle = "white";
    pen.fillRect(0, 0, ink.width, ink.height);
    pen.strokeStyle = pen.fillStyle = "black";
    pen.lineWidth = 0.085 * ink.width;
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of strokes) {
      const points = stroke.map(([x, y]) => [x * ink.width, y * ink.height]);
      pen.beginPath();
      pen.moveTo(...points[0]);
      if (points.length === 1) pen.lineTo(...points[0]);
      // Through the middles of neighbouring points, so that a quick hand leaves no corners.
      for (let i = 1; i < points.length; i++) {
        const [x, y] = points[i - 1];
        pen.quadraticCurveTo(x, y, (x + points[i][0]) / 2, (y + points[i][1]) / 2);
      }
      if (points.length > 1) pen.lineTo(...points[points.length - 1]);
      pen.stroke();
    }
  }

  function send() {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      sent = performance.now();
      model.set("strokes", strokes.map((stroke) => stroke.map((point) => point.slice())));
      model.save_changes();
    }, Math.max(0, PAUSE - (performance.now() - sent)));
  }

  function point(event) {
    const box = ink.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  ink.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    event.preventDefault();
    ink.setPointerCapture(event.pointerId);
    drawing = true;
    strokes.push([point(event)]);
    repaint();
    send();
  });
  ink.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    event.preventDefault();
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    strokes[strokes.length - 1].push(...(events.length ? events : [event]).map(point));
    repaint();
    send();
  });
  for (const name of ["pointerup", "pointercancel"]) ink.addEventListener(name, () => { drawing = false; });
  find(".pad-undo").addEventListener("click", () => { strokes.pop(); repaint(); send(); });
  find(".pad-clear").addEventListener("click", () => { strokes = []; repaint(); send(); });

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
  repaint();
  show();
  return () => model.off("change:answer", show);
}

export default { render };
