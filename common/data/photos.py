"""Photos of digits that a pen wrote on lit paper, made here, with known labels: to measure what reads a user's photo.

A digit is one of several hands' strokes, each a smooth curve through a few points. Every point is moved a little at
random, and the digit is slanted, turned, stretched and placed at random. Then come the pen, the paper, the light, a
shadow, the camera's blur and noise, and JPEG. All randomness is from one seed: the same arguments give the same pixels.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter

from common.system.errors import UserError

PENS = {"thin": (0.018, 0.035), "medium": (0.05, 0.085), "thick": (0.1, 0.14)}  # of the digit's height
FINE = 2  # the ink is drawn this many times larger, and made smaller again: its edges are antialiased

# For each digit three hands. A hand is strokes with | between them; a stroke is points x,y in hundredths, y down, and
# either a smooth curve through them or straight lines from each to the next.
HANDS = {
    "0": (
        "curve 50,2 22,20 14,55 30,92 58,96 82,70 83,30 65,6 48,2",
        "curve 62,5 30,12 20,50 36,95 66,90 80,50 68,10 52,4",
        "curve 45,4 10,35 16,80 50,98 86,75 88,30 55,3 42,6",
    ),
    "1": (
        "straight 52,2 48,98",
        "straight 36,24 54,3 52,98",
        "curve 56,2 52,50 46,98",
    ),
    "2": (
        "curve 18,25 34,5 62,4 76,24 62,52 36,78 16,96 | straight 16,96 84,94",
        "curve 20,20 45,2 74,16 66,48 35,82 20,90 24,74 42,80 62,94 84,88",
        "curve 22,16 50,3 72,20 64,46 40,74 20,95 50,93 82,95",
    ),
    "3": (
        "curve 20,12 48,2 74,16 66,40 42,48 | curve 42,48 72,56 80,78 54,97 18,88",
        "curve 22,18 50,3 74,20 60,43 42,48 66,53 78,75 50,97 20,84",
        "straight 20,5 74,5 46,42 | curve 46,42 74,54 76,80 48,97 18,86",
    ),
    "4": (
        "straight 42,3 14,62 86,60 | straight 66,30 62,98",
        "curve 22,4 18,30 22,50 50,54 76,46 | straight 76,3 72,98",
        "straight 60,98 64,3 12,66 88,64",
    ),
    "5": (
        "straight 78,4 30,5 26,44 | curve 26,44 54,38 78,58 70,86 44,97 16,87",
        "curve 32,6 28,42 54,40 76,64 60,92 20,93 | straight 32,6 80,4",
        "curve 76,5 52,5 34,8 28,26 27,44 50,41 74,60 64,90 20,92",
    ),
    "6": (
        "curve 64,3 36,28 22,62 34,93 62,94 76,73 60,53 36,60 25,76",
        "curve 50,2 28,34 22,74 46,97 74,82 64,56 40,58 24,74",
        "curve 72,6 42,18 20,56 30,92 64,92 72,64 46,52 24,72",
    ),
    "7": (
        "straight 16,7 82,5 42,98",
        "curve 16,10 46,7 80,8 60,44 48,72 42,98",
        "straight 18,6 80,6 40,98 | straight 34,50 74,48",
    ),
    "8": (
        "curve 72,16 48,2 26,18 42,42 68,62 72,86 48,98 24,84 34,60 62,38 74,16",
        "curve 50,46 26,26 48,2 74,20 52,46 22,74 48,98 78,76 50,46",
        "curve 50,2 28,12 32,38 66,56 74,84 48,98 24,80 38,54 68,32 68,8 48,2",
    ),
    "9": (
        "curve 74,20 50,3 24,18 28,44 56,48 73,26 | straight 74,16 68,98",
        "curve 72,22 46,2 24,26 42,50 68,36 73,18 70,56 58,98",
        "curve 70,14 40,4 24,30 46,50 70,32 72,12 74,50 66,86 34,94",
    ),
}


def photo(
    digits: str = "7",
    seed: int = 0,
    *,
    pen: str | float | None = None,
    size: tuple[int, int] | None = None,
    light_on_dark: bool = False,
) -> Image.Image:
    """A photo, RGB, of these digits in one line, or in several: "12\\n345".

    `pen` is "thin", "medium" or "thick", or the width of its line as a share of the digits' height; `size` is (width,
    height) in pixels. What is not given is drawn at random from the seed. Raises UserError for other arguments.
    """
    lines = _lines(digits)
    random = np.random.default_rng([seed, *digits.encode()])
    width_of_pen = _pen(pen, random)
    longest = max(map(len, lines))
    if size is None:
        side = int(random.integers(320, 560))
        size = int(side * max(1.0, 0.62 * longest)), int(side * max(1.0, 0.9 * len(lines)))
    elif min(size) < 48 or max(size) > 4096:
        raise UserError(f"A photo has sides of 48 to 4,096 pixels, not {size[0]} x {size[1]}.")
    ink = _written(lines, size, width_of_pen, random)
    return _photographed(ink, light_on_dark, random)


@dataclass(frozen=True)
class Photo:
    """A photo of one digit and what it shows."""

    image: Image.Image  # RGB
    label: int


def photos(count: int, seed: int = 0, pen: str | float | None = None) -> list[Photo]:
    """`count` photos of one digit each, the ten digits in turn."""
    return [Photo(photo(str(i % 10), seed=1000 * seed + i, pen=pen), i % 10) for i in range(count)]


def _lines(digits: str) -> list[str]:
    lines = digits.split("\n") if isinstance(digits, str) else []
    if not lines or not all(line and set(line) <= set(HANDS) for line in lines) or len(digits) > 200:
        raise UserError(f'Digits are a text such as "7" or "12\\n345" of at most 200 signs, not {digits!r}.')
    return lines


def _pen(pen: str | float | None, random) -> float:
    if pen is None:
        pen = ("thin", "medium", "medium", "thick")[random.integers(4)]
    if isinstance(pen, str) and pen in PENS:
        return random.uniform(*PENS[pen])
    if isinstance(pen, int | float) and 0.005 <= pen <= 0.25:
        return float(pen)
    raise UserError(f"A pen is thin, medium, thick, or a width from 0.005 to 0.25 of the digit's height, not {pen!r}.")


# --- The pen ---------------------------------------------------------------------------------------------------------


def _written(lines: list[str], size: tuple[int, int], pen: float, random) -> np.ndarray:
    """How much of each pixel is ink, [height, width] from 0 to 1."""
    width, height = size
    canvas = Image.new("L", (FINE * width, FINE * height))
    draw = ImageDraw.Draw(canvas)
    row = height / len(lines)
    column = width / max(map(len, lines))
    alone = len(lines) == 1 and len(lines[0]) == 1
    tall = min(0.72 * row, 1.1 * column) * random.uniform(0.45 if alone else 0.8, 1)
    turn, slant = random.normal(0, 4), random.normal(0, 0.12)
    for i, line in enumerate(lines):
        for j, digit in enumerate(line):
            room = np.array([(column - 0.8 * tall) / 2, (row - tall) / 2]) * (0.75 if alone else 0.25)
            middle = np.array([(j + 0.5) * column, (i + 0.5) * row]) + random.uniform(-1, 1, 2) * np.maximum(room, 0)
            _write(draw, digit, middle, tall * random.uniform(0.94, 1.06), pen * tall, turn, slant, random)
    ink = canvas.resize(size, Image.Resampling.BOX)
    return np.asarray(ink, dtype=np.float32) / 255


def _write(draw, digit: str, middle, tall: float, pen: float, turn: float, slant: float, random) -> None:
    """One digit around `middle`, `tall` pixels high."""
    hands = HANDS[digit]
    hand = hands[random.integers(len(hands))]
    angle = np.radians(turn + random.normal(0, 3))
    lean = slant + random.normal(0, 0.05)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = turned @ np.array([[random.uniform(0.62, 0.9), -lean], [0, 1]])
    moved = {}  # where two strokes share a point they go on sharing it
    for stroke in hand.split(" | "):
        kind, *points = stroke.split()
        points = [moved.setdefault(point, _point(point) + random.normal(0, 0.014, 2)) for point in points]
        line = _smooth(np.array(points)) if kind == "curve" else np.array(points)
        line = FINE * (((line - 0.5) @ shape.T) * tall + middle)
        width = max(1, round(FINE * pen * random.uniform(0.92, 1.08)))
        draw.line([tuple(point) for point in line], fill=255, width=width, joint="curve")
        for x, y in (line[0], line[-1]):
            draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)


def _point(text: str) -> np.ndarray:
    """ "50,2" as (0.5, 0.02)."""
    return np.array([int(number) for number in text.split(",")]) / 100


def _smooth(points: np.ndarray, steps: int = 60) -> np.ndarray:
    """A smooth curve [steps, 2] through the points [N, 2], at a speed by their distances."""
    along = np.concatenate([[0], np.cumsum(np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1)))])
    return make_interp_spline(along, points, k=min(3, len(points) - 1))(np.linspace(0, along[-1], steps))


# --- The camera ------------------------------------------------------------------------------------------------------


def _photographed(ink: np.ndarray, light_on_dark: bool, random) -> Image.Image:
    height, width = ink.shape
    paper = random.uniform(0.78, 0.98) * (1 - random.uniform(0, 0.08, 3))  # white to a little coloured
    colour = np.array([(0.08, 0.08, 0.1), (0.1, 0.16, 0.5), (0.3, 0.3, 0.32), (0.5, 0.12, 0.12)][random.integers(4)])
    if light_on_dark:
        paper, colour = np.array([0.16, 0.2, 0.18]) * random.uniform(0.6, 1.2), np.array([0.9, 0.9, 0.86])
    strength = random.uniform(0.8, 1) * (1 - 0.12 * gaussian_filter(random.random(ink.shape), 1.5))
    cover = (ink * strength)[..., None]
    grain = gaussian_filter(random.normal(0, 1, ink.shape), 1.0) * random.uniform(0, 0.02)
    scene = (1 - cover) * paper * (1 + grain[..., None]) + cover * colour
    image = scene * _light(height, width, random)[..., None]
    image = gaussian_filter(image, (*(random.uniform(0.3, 1.3),) * 2, 0))
    image = image + random.normal(0, random.uniform(0.004, 0.025), image.shape)
    picture = Image.fromarray(np.floor(255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=int(random.integers(55, 93)))
    return Image.open(encoded).convert("RGB")


def _light(height: int, width: int, random) -> np.ndarray:
    """How bright the light is at each pixel: from one side, less in the corners, and at times a shadow."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = 2 * y / height - 1, 2 * x / width - 1
    angle, fall = random.uniform(0, 2 * np.pi), random.uniform(0, 0.35)
    light = 1 - fall * (1 + x * np.cos(angle) + y * np.sin(angle)) / 2
    light *= 1 - random.uniform(0, 0.2) * (x**2 + y**2) / 2
    if random.random() < 0.4:  # of a hand or a phone, with a soft edge
        angle, place = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.7)
        soft = random.uniform(0.05, 0.3)
        depth = random.uniform(0.15, 0.45)
        light *= 1 - depth / (1 + np.exp(-(x * np.cos(angle) + y * np.sin(angle) - place) / soft))
    return light
