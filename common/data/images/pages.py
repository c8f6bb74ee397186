"""Digits on a page: the lighting is evened out, the ink found, its pieces joined to digits and put in reading order."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, gaussian, rank, threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import skeletonize
from skimage.transform import resize

from common.system.errors import UserError

COARSE = 128  # pixels of the longer side on which the lighting is estimated
SMALL = 160  # a longer side of less is enlarged, so that a line has some pixels
LEAST_CONTRAST = 0.08  # of ink against its paper, where the paper is 1
MOST_DIGITS = 200
NO_INK = "There is no ink to be seen"
ADVICE = "photograph dark digits on plain light paper, from near and without other things in the picture"


@dataclass(frozen=True, eq=False)
class Found:
    """The ink of a page; all arrays [height, width]."""

    grey: np.ndarray  # float, 0 is black and 1 white
    evened: np.ndarray  # float, 0 is paper and 1 the darkest that ink could be, whatever the light
    ink: np.ndarray  # bool
    digits: tuple[np.ndarray, ...]  # for each digit which pixels are its ink, bool, in reading order
    light_on_dark: bool


def find(grey: np.ndarray) -> Found:
    """The digits in a grey image, left to right, lines from top to bottom. Raises UserError where there are none."""
    grey = _enlarged(grey)
    evened, light_on_dark, noise = _evened(grey)
    ink, level = _ink(evened, noise)
    pieces = _pieces(ink, evened, level)
    digits = _in_reading_order(_joined(pieces, ink.shape))
    if len(digits) > MOST_DIGITS:
        raise UserError(f"There are over {MOST_DIGITS} marks in the image; {ADVICE}.")
    return Found(grey, evened, ink, tuple(digits), light_on_dark)


def _enlarged(grey: np.ndarray) -> np.ndarray:
    factor = -(-SMALL // max(grey.shape))
    if factor == 1:
        return grey
    return resize(grey, tuple(factor * side for side in grey.shape), order=1, anti_aliasing=False)


# --- Lighting --------------------------------------------------------------------------------------------------------


def _evened(grey: np.ndarray) -> tuple[np.ndarray, bool, float]:
    """The ink's darkness as a share of its paper's brightness, whether it is light on dark, and the paper's noise.

    The paper is what is left when the ink is taken away: first the median over a large window, then the mean over a
    small one of all pixels that are not ink.
    """
    factor = min(1, COARSE / max(grey.shape))
    small = resize(grey, tuple(max(1, round(factor * side)) for side in grey.shape), order=1, anti_aliasing=factor < 1)
    small = np.clip(small, 0, 1)
    window = np.ones((max(3, min(small.shape) // 2),) * 2, dtype=bool)
    paper = rank.median((255 * small).astype(np.uint8), window) / 255.0
    light_on_dark = ((small - paper) ** 3).sum() > 0
    if light_on_dark:
        grey, small, paper = 1 - grey, 1 - small, 1 - paper
    for sigma in (len(window) / 3, len(window) / 6):
        darkness = np.maximum(paper - small, 0)
        noise = 1.4826 * np.median(np.abs(small - paper))
        marked = darkness > max(threshold_otsu(darkness) / 2 if np.ptp(darkness) > 0 else 0, 3 * noise, 0.02)
        clean = ~ndimage.binary_dilation(marked, iterations=2)
        weight = gaussian(clean.astype(float), sigma)
        known = gaussian(small * clean, sigma) / np.maximum(weight, 1e-9)
        paper = np.where(weight > 0.02, known, paper)
    paper = resize(paper, grey.shape, order=1)
    evened = (paper - grey) / (1 if light_on_dark else np.maximum(paper, 0.1))
    evened = gaussian(evened, max(grey.shape) / 1500)
    noise = 1.4826 * float(np.median(np.abs(evened - np.median(evened))))
    return np.clip(evened, 0, 1), bool(light_on_dark), noise


# --- Ink -------------------------------------------------------------------------------------------------------------


def _ink(evened: np.ndarray, noise: float) -> tuple[np.ndarray, float]:
    """Which pixels are ink, and how dark ink is where it is full.

    Ink is a small part of a page, too small for Otsu's threshold. So it is sought among the pixels near to what stands
    out of the noise: there paper and ink have equal shares.
    """
    outstanding = evened > max(6 * noise, LEAST_CONTRAST)
    outstanding = ndimage.binary_opening(outstanding)
    if not outstanding.any():
        raise UserError(f"{NO_INK}; {ADVICE}.")
    strong = evened > 0.5 * np.percentile(evened[outstanding], 95)
    near = ndimage.binary_dilation(strong, iterations=max(2, round(max(evened.shape) / 150)))
    threshold = float(threshold_otsu(evened[near]))
    ink = apply_hysteresis_threshold(evened, max(0.6 * threshold, 4 * noise), threshold)
    return ink, float(np.median(evened[ink & (evened > threshold)]))


# --- Pieces ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Piece:
    """Connected ink: its pixels [N, 2] as rows and columns."""

    pixels: np.ndarray

    def __post_init__(self):
        self.top, self.left = self.pixels.min(axis=0)
        self.bottom, self.right = self.pixels.max(axis=0) + 1
        self.height, self.width = self.bottom - self.top, self.right - self.left
        self.size = max(self.height, self.width)

    def mask(self, shape) -> np.ndarray:
        mask = np.zeros(shape, dtype=bool)
        mask[tuple(self.pixels.T)] = True
        return mask


def _pieces(ink: np.ndarray, evened: np.ndarray, level: float) -> list[_Piece]:
    """The connected ink that a pen may have drawn, without specks and what lies over the edge."""
    regions = regionprops(label(ink, connectivity=2))
    least = max(8, 0.02 * max(ink.shape))
    pieces = [_Piece(region.coords) for region in regions if region.area >= least]
    inside = [piece for piece in pieces if not _over_the_edge(piece, ink.shape)]
    pieces = inside or pieces
    tallest = max((piece.size for piece in pieces), default=0)
    if tallest < least:
        raise UserError(f"{NO_INK}, only specks; {ADVICE}.")
    pieces = [piece for piece in pieces if piece.size >= 0.15 * tallest]
    drawn = [piece for piece in pieces if _is_drawn(piece, evened, level)]
    if sum(len(piece.pixels) for piece in drawn) < 0.5 * sum(len(piece.pixels) for piece in pieces):
        raise UserError(f"What stands out in the image are no strokes of a pen; {ADVICE}.")
    return [part for piece in drawn for part in _apart(piece, evened)]


def _over_the_edge(piece: _Piece, shape) -> bool:
    """Whether it runs along an edge of the image: a table beside the paper, a shadow, a line over the whole page."""
    height, width = shape
    return piece.top == 0 or piece.left == 0 or piece.bottom == height or piece.right == width


def _is_drawn(piece: _Piece, evened: np.ndarray, level: float) -> bool:
    """Whether a pen may have drawn it: a line that is narrow, about equally wide, equally dark and of few loops."""
    pad = 2
    local = np.pad(piece.mask(evened.shape)[piece.top : piece.bottom, piece.left : piece.right], pad)
    inside = ndimage.distance_transform_edt(local)
    widths = 2 * inside[skeletonize(local)]
    if len(widths) == 0:
        return False
    narrow = widths.mean() / piece.size
    holes = label(~local, connectivity=1).max() - 1
    return bool(narrow < 0.4 and holes <= 6)


def _apart(piece: _Piece, evened: np.ndarray) -> list[_Piece]:
    return [piece]


def _joined(pieces: list[_Piece], shape) -> list[np.ndarray]:
    """Pieces of one digit made one, such as the bar of a 5."""
    tallest = np.median([piece.height for piece in pieces if piece.height >= 0.5 * max(p.height for p in pieces)])
    pieces = sorted(pieces, key=lambda piece: piece.size)
    found = True
    while found:
        found = False
        for i, one in enumerate(pieces):
            for other in pieces[i + 1 :]:
                if _belong_together(one, other, tallest):
                    pieces.remove(one)
                    pieces.remove(other)
                    pieces.append(_Piece(np.concatenate([one.pixels, other.pixels])))
                    pieces.sort(key=lambda piece: piece.size)
                    found = True
                    break
            if found:
                break
    pieces = [piece for piece in pieces if piece.size >= 0.35 * tallest]
    return pieces


def _belong_together(one: _Piece, other: _Piece, tallest: float) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    if across > 0 and down > 0 and across * down > 0.5 * min(one.width * one.height, other.width * other.height):
        return True
    small = min(one.size, other.size) < 0.6 * tallest
    height = max(one.bottom, other.bottom) - min(one.top, other.top)
    near = -down < 0.15 * tallest and -across < 0.12 * tallest
    return bool(small and near and height < 1.3 * tallest and across > 0.3 * min(one.width, other.width))


def _in_reading_order(pieces: list[_Piece]) -> list[_Piece]:
    """Lines from top to bottom, each from left to right; a line may rise or fall."""
    lines: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.left):
        middle = (piece.top + piece.bottom) / 2

        def apart(line, middle=middle):
            return abs((line[-1].top + line[-1].bottom) / 2 - middle)

        fitting = [line for line in lines if line[-1].top < middle < line[-1].bottom]
        if fitting:
            min(fitting, key=apart).append(piece)
        else:
            lines.append([piece])
    lines.sort(key=lambda line: np.mean([(piece.top + piece.bottom) / 2 for piece in line]))
    return [piece for line in lines for piece in line]
