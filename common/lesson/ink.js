// A canvas to draw on with the mouse, a pen, a finger or the arrow keys: for the notebooks' pad and the page "Draw a digit".

/**
 * Makes `canvas` a drawing pad. A stroke is a list of points [x, y] from 0 to 1. `changed` is called after each change
 * of the strokes, `moved` (if given) when the arrow keys move the pen without drawing. `colours()` gives those of the
 * paper, the ink and the keyboard's pen.
 */
function inkPad(canvas, { changed, moved = () => {}, colours = () => ["white", "black", "#d95f02"] }) {
  const WIDTH = 0.085; // of the line, as a part of the pad's side
  const STEP = 0.04; // by which an arrow key moves the pen
  const context = canvas.getContext("2d");
  let strokes = [];
  let drawing = false;
  let cursor = null; // where the keyboard's pen is, and whether it is down

  function repaint() {
    const [paper, ink, pen] = colours();
    context.fillStyle = paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.strokeStyle = ink;
    context.lineWidth = WIDTH * canvas.width;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of strokes.filter(({ length }) => length)) {
      const points = stroke.map(([x, y]) => [x * canvas.width, y * canvas.height]);
      context.beginPath();
      context.moveTo(...points[0]);
      if (points.length === 1) context.lineTo(...points[0]);
      // Through the middles of neighbouring points, so that a quick hand leaves no corners.
      for (let i = 1; i < points.length; i++) {
        const [x, y] = points[i - 1];
        context.quadraticCurveTo(x, y, (x + points[i][0]) / 2, (y + points[i][1]) / 2);
      }
      if (points.length > 1) context.lineTo(...points[points.length - 1]);
      context.stroke();
    }
    if (cursor) {
      context.strokeStyle = context.fillStyle = pen;
      context.lineWidth = 0.012 * canvas.width;
      context.beginPath();
      context.arc(cursor.x * canvas.width, cursor.y * canvas.height, 0.04 * canvas.width, 0, 7);
      if (cursor.down) context.fill();
      else context.stroke();
    }
  }

  function replace(others) {
    strokes = others;
    drawing = false;
    if (cursor) cursor.down = false;
    repaint();
    changed(strokes);
  }

  const within = (value) => Math.min(1, Math.max(0, value));

  function add(points, begins) {
    if (begins) strokes.push(points);
    else strokes[strokes.length - 1].push(...points);
    repaint();
    changed(strokes);
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0 || !event.isPrimary) return; // a second finger does not draw
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    cursor = null;
    drawing = true;
    add([place(event)], true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawing || !event.isPrimary) return;
    event.preventDefault();
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    add((events.length ? events : [event]).map(place), false);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { drawing = false; });

  const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!(event.key in WAYS || event.key === " " || event.key === "Backspace")) return;
    event.preventDefault();
    if (event.key === "Backspace") {
      replace(strokes.slice(0, -1));
      return;
    }
    cursor = cursor || { x: 0.5, y: 0.5, down: false };
    if (event.key === " ") {
      cursor.down = !cursor.down;
      if (cursor.down) add([[cursor.x, cursor.y]], true);
    } else {
      const [right, down] = WAYS[event.key];
      cursor.x = within(cursor.x + right * STEP);
      cursor.y = within(cursor.y + down * STEP);
      if (cursor.down) add([[cursor.x, cursor.y]], false);
    }
    repaint();
    moved(cursor);
  });
  canvas.addEventListener("blur", () => { cursor = null; repaint(); });

  repaint();
  return {
    undo: () => replace(strokes.slice(0, -1)),
    clear: () => replace([]),
    replace,
    repaint,
    strokes: () => strokes,
  };
}
