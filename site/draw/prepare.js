// From strokes to an image of MNIST's form, as common/data/strokes.py makes it; a test holds the two equal in each pixel.
"use strict";

/**
 * The strokes, lists of points [x, y], as lines in pixels of the image: `box` pixels wide or high with the pen's width,
 * and the ink's centre of mass in the middle. An empty list for a drawing without points.
 */
function placeLines(strokes, pen, { side, box }) {
  const lines = strokes.filter((stroke) => stroke.length);
  if (!lines.length) return [];
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of lines.flat()) {
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
  }
  const extent = Math.max(right - left, bottom - top);
  const scale = extent === 0 ? 1 : (box - pen) / Math.max(extent, 1e-9); // the pen's width belongs to the digit
  const [middleX, middleY] = [(left + right) / 2, (top + bottom) / 2];
  const scaled = lines.map((line) =>
    line.map(([x, y]) => [(x - middleX) * scale + side / 2, (y - middleY) * scale + side / 2]));
  const ink = inkOf(scaled, pen, side);
  let [mass, massX, massY] = [0, 0, 0];
  ink.forEach((value, i) => {
    mass += value;
    massX += value * ((i % side) + 0.5);
    massY += value * (Math.floor(i / side) + 0.5);
  });
  return scaled.map((line) => line.map(([x, y]) => [x + side / 2 - massX / mass, y + side / 2 - massY / mass]));
}

/** The lines turned about the middle of the image, clockwise in degrees, and then shifted by pixels. */
function moveLines(lines, { turn, right, down }, side) {
  const [cos, sin] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
  return lines.map((line) => line.map(([x, y]) => {
    const [fromX, fromY] = [x - side / 2, y - side / 2];
    return [cos * fromX - sin * fromY + side / 2 + right, sin * fromX + cos * fromY + side / 2 + down];
  }));
}

/** How much of each pixel is ink, side * side numbers from 0 to 1, by the distance of its centre from the nearest line. */
function inkOf(lines, pen, side) {
  const nearest = new Float64Array(side * side).fill(Infinity); // squared distances
  const reach = pen / 2 + 0.5; // beyond it there is no ink
  for (const line of lines) {
    for (let i = 0; i < Math.max(1, line.length - 1); i++) {
      const [startX, startY] = line[i];
      const [endX, endY] = line[Math.min(i + 1, line.length - 1)];
      const [wayX, wayY] = [endX - startX, endY - startY];
      const length = Math.max(wayX * wayX + wayY * wayY, 1e-12);
      const first = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - reach - 1));
      const last = (a, b) => Math.min(side - 1, Math.ceil(Math.max(a, b) + reach));
      for (let row = first(startY, endY); row <= last(startY, endY); row++) {
        for (let column = first(startX, endX); column <= last(startX, endX); column++) {
          const [x, y] = [column + 0.5, row + 0.5];
          const along = Math.min(1, Math.max(0, ((x - startX) * wayX + (y - startY) * wayY) / length));
          const [apartX, apartY] = [x - (startX + along * wayX), y - (startY + along * wayY)];
          const squared = apartX * apartX + apartY * apartY;
          if (squared < nearest[row * side + column]) nearest[row * side + column] = squared;
        }
      }
    }
  }
  return nearest.map((squared) => Math.min(1, Math.max(0, reach - Math.sqrt(squared))));
}

/** The lines as the image that a network sees: Uint8Array of side * side, 0 is the background and 255 full ink. */
function paintLines(lines, pen, side) {
  // The millionth: a half is rounded up, whatever the last digits are, as in Python.
  return Uint8Array.from(inkOf(lines, pen, side), (ink) => Math.floor(255 * ink + 0.5 + 1e-6));
}
