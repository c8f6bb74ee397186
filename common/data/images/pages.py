"""Digits on a page: the lighting is evened out, the ink found, its pieces joined to digits and put in reading order."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from skimage.filters import apply_hysteresis_threshold, gaussian, rank, threshold_otsu
from skimage.graph import route_through_array
from skimage.measure import label, regionprops
from skimage.morphology import skeletonize
from skimage.transform import resize

from common.system.errors import UserError

COARSE = 128  # pixels of the longer side on which the lighting is estimated
SMALL = 160  # a longer side of less is enlarged, so that a line has some pixels
LEAST_CONTRAST = 0.08  # of ink against its paper, where the paper is 1
MOST_PIECES = 150
WIDEST = 1.9  # times its height: what is wider is more than one digit; of MNIST's 60,000 training images 30 are
WIDE = 1.05  # what is wider may be two digits that touch
NO_INK = "There is no ink to be seen"
ADVICE = "photograph dark digits on plain light paper, from near and without other things in the picture"


@dataclass(frozen=True, eq=False)
class Found:
    """The ink of a page; all arrays [height, width]."""

    grey: np.ndarray  # float, 0 is black and 1 white
    evened: np.ndarray  # float, 0 is paper and 1 the darkest that ink could be, whatever the light
    ink: np.ndarray  # bool
    digits: tuple["Piece", ...]  # in reading order
    light_on_dark: bool


def find(grey: np.ndarray) -> Found:
    """The digits in a grey image, left to right, lines from top to bottom. Raises UserError where there are none."""
    grey = _enlarged(grey)
    evened, light_on_dark, noise = _evened(grey)
    ink = _ink(evened, noise)
    pieces = []
    whole = _joined(_pieces(ink, evened))
    highest = max(piece.height for piece in whole)
    for piece in whole:
        several = piece.width > WIDEST * piece.height and piece.height > 0.5 * highest
        pieces += apart(piece, evened) if several else [piece]
    return Found(grey, evened, ink, tuple(_in_reading_order(pieces)), light_on_dark)


def _enlarged(grey: np.ndarray) -> np.ndarray:
    factor = -(-SMALL // max(grey.shape))
    if factor == 1:
        return grey
    return resize(grey, tuple(factor * side for side in grey.shape), order=1, anti_aliasing=False)


# --- Lighting --------------------------------------------------------------------------------------------------------


def _evened(grey: np.ndarray) -> tuple[np.ndarray, bool, float]:
    """The ink's darkness as a share of its paper's brightness, whether it is light on dark, and the paper's noise.

    Paper is what is left when the ink is taken away. Whether ink is darker or lighter than its paper, the median over a
    large window tells. Then ink is what a closing fills, because it is narrow, and paper the mean of all pixels nearby
    that are not ink.
    """
    factor = min(1, COARSE / max(grey.shape))
    small = resize(grey, tuple(max(1, round(factor * side)) for side in grey.shape), order=1, anti_aliasing=factor < 1)
    small = np.clip(small, 0, 1)
    window = np.ones((max(3, min(small.shape) // 2),) * 2, dtype=bool)
    paper = rank.median((255 * small).astype(np.uint8), window) / 255.0
    light_on_dark = ((small - paper) ** 3).sum() > 0
    if light_on_dark:
        grey, small, paper = 1 - grey, 1 - small, 1 - paper
    paper = ndimage.grey_closing(small, (max(3, min(small.shape) // 4),) * 2, mode="nearest")
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


def _ink(evened: np.ndarray, noise: float) -> np.ndarray:
    """Which pixels are ink, bool.

    Ink is a small part of a page, too small for Otsu's threshold. So it is sought among the pixels near to what stands
    out of the noise: there paper and ink have equal shares. Fainter pixels that go on from these are ink too.
    """
    outstanding = ndimage.binary_opening(evened > max(6 * noise, LEAST_CONTRAST))
    if not outstanding.any():
        raise UserError(f"{NO_INK}; {ADVICE}.")
    strong = evened > 0.5 * np.percentile(evened[outstanding], 95)
    near = ndimage.binary_dilation(strong, iterations=max(2, round(max(evened.shape) / 150)))
    threshold = float(threshold_otsu(evened[near]))
    ink = apply_hysteresis_threshold(evened, max(0.6 * threshold, 4 * noise), threshold)
    level = float(np.median(evened[ink]))
    steep = ndimage.gaussian_gradient_magnitude(evened, 1.5) > 0.04 * level  # what is left of a shadow is not
    clutter = (evened > 0.4 * level) & steep & ~ndimage.binary_dilation(ink, iterations=3)
    if level < 8 * noise or clutter.sum() > 0.3 * ink.sum():
        raise UserError(f"The image shows no even paper with ink on it; {ADVICE}.")
    return ink


# --- Pieces ----------------------------------------------------------------------------------------------------------


class Piece:
    """Some pixels of a page: their box, and within it which are meant."""

    def __init__(self, pixels: np.ndarray):
        """`pixels` are rows and columns [N, 2]."""
        self.pixels = pixels
        self.top, self.left = (int(edge) for edge in pixels.min(axis=0))
        self.bottom, self.right = (int(edge) + 1 for edge in pixels.max(axis=0))
        self.height, self.width = self.bottom - self.top, self.right - self.left
        self.size = max(self.height, self.width)

    def window(self, shape: tuple[int, int], room: int) -> tuple[slice, slice]:
        """Its box with so many pixels more on each side, as far as the page goes."""
        return (
            slice(max(0, self.top - room), min(shape[0], self.bottom + room)),
            slice(max(0, self.left - room), min(shape[1], self.right + room)),
        )

    def mask(self, window: tuple[slice, slice]) -> np.ndarray:
        """Which pixels of this part of the page are its own, bool."""
        rows, columns = window
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        mask[self.pixels[:, 0] - rows.start, self.pixels[:, 1] - columns.start] = True
        return mask


def _pieces(ink: np.ndarray, evened: np.ndarray) -> list[Piece]:
    """The connected ink that a pen may have drawn, without specks and without what goes over the image's edge."""
    regions = regionprops(label(ink, connectivity=2))
    least = max(8, 0.02 * max(ink.shape))
    pieces = [Piece(region.coords) for region in regions if region.area >= least]
    pieces = [piece for piece in pieces if not _over_the_edge(piece, ink.shape)] or pieces
    tallest = max((piece.size for piece in pieces), default=0)
    if tallest < least:
        raise UserError(f"{NO_INK}, only specks; {ADVICE}.")
    pieces = [piece for piece in pieces if piece.size >= 0.15 * tallest]
    if len(pieces) > MOST_PIECES:
        raise UserError(f"There are over {MOST_PIECES} separate marks in the image; {ADVICE}.")
    drawn = [piece for piece in pieces if _is_drawn(piece, ink, evened)]
    if sum(piece.size for piece in drawn) < 0.6 * sum(piece.size for piece in pieces):
        raise UserError(f"What stands out in the image are no strokes of a pen on paper; {ADVICE}.")
    return drawn


def _over_the_edge(piece: Piece, shape: tuple[int, int]) -> bool:
    """Whether it reaches an edge of the image: a table beside the paper, a shadow, a line over the whole page."""
    return piece.top == 0 or piece.left == 0 or piece.bottom == shape[0] or piece.right == shape[1]


def _is_drawn(piece: Piece, ink: np.ndarray, evened: np.ndarray) -> bool:
    """Whether a pen may have drawn it: a line of about one width, with sharp edges, few loops, and clean paper around.

    The bounds are well outside of what 580 photographed, printed and scanned digits have. Things in a photo of
    something else, such as an eye, a coin or a branch, mostly fail one of them.
    """
    window = piece.window(ink.shape, room=max(6, piece.size // 8))
    mask, darkness = np.pad(piece.mask(window), 1), np.pad(evened[window], 1, mode="edge")
    widths = 2 * ndimage.distance_transform_edt(mask)[skeletonize(mask)]
    width = widths.mean()
    loops = label(~mask, connectivity=1).max() - 1
    level = np.median(darkness[mask])
    edge = mask & ~ndimage.binary_erosion(mask)
    sharpness = np.median(ndimage.gaussian_gradient_magnitude(darkness, 1.0)[edge]) * max(width, 4) / level
    away = ndimage.distance_transform_edt(~mask)
    paper = (away > 3) & (away < 3 + max(4, width / 2)) & ~np.pad(ndimage.binary_dilation(ink[window], iterations=2), 1)
    return bool(
        width < 0.36 * piece.size  # else a spot
        and widths.std() < 0.5 * width
        and len(widths) < 4 * piece.size  # else a tangle
        and loops <= 5
        and sharpness > 0.8
        and (not paper.any() or np.percentile(darkness[paper], 90) < 0.42 * level)
    )


# --- Digits ----------------------------------------------------------------------------------------------------------


def apart(piece: Piece, evened: np.ndarray) -> list[Piece]:
    """The digits that it would be if they touched: cut from top to bottom, each time through the least ink."""
    count = max(2, round(piece.width / (0.75 * piece.height)))
    window = piece.window(evened.shape, room=0)
    cost = evened[window] * piece.mask(window) + 0.02
    share = piece.width / count
    cuts = []
    for i in range(1, count):
        left, right = round((i - 0.3) * share), round((i + 0.3) * share)
        cuts.append(left + _cheapest_way_down(cost[:, left:right]))
    rows, columns = (piece.pixels - (piece.top, piece.left)).T
    place = sum((columns > cut[rows]).astype(int) for cut in cuts)
    parts = [piece.pixels[place == i] for i in range(count)]
    return [Piece(part) for part in parts if len(part)]


def _cheapest_way_down(cost: np.ndarray) -> np.ndarray:
    """For each row of `cost` [height, width] the column of the way from the top to the bottom that costs the least."""
    free = np.full((1, cost.shape[1]), 1e-6)  # it may begin and end in any column
    path, _ = route_through_array(np.vstack([free, cost, free]), (0, 0), (len(cost) + 1, 0), fully_connected=True)
    path = np.array(path)
    return np.array([path[path[:, 0] == row + 1, 1].max() for row in range(len(cost))])


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces of one digit made one, such as the bar of a 5; what is left alone and small is no digit."""
    tallest = max(piece.size for piece in pieces)
    usual = float(np.median([piece.size for piece in pieces if piece.size >= 0.5 * tallest]))
    together = np.array([[_belong_together(one, other, usual) for other in pieces] for one in pieces])
    count, group = connected_components(together, directed=False)
    members = [[piece.pixels for piece, number in zip(pieces, group, strict=True) if number == i] for i in range(count)]
    whole = [Piece(np.concatenate(pixels)) for pixels in members]
    return [piece for piece in whole if piece.size >= 0.35 * usual]


def _belong_together(one: Piece, other: Piece, usual: float) -> bool:
    """Whether two pieces are one digit: one lies mostly in the other's box, or it is small and just above or below.

    `usual` is the height of the page's digits.
    """
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    if across > 0 and down > 0 and across * down > 0.5 * min(one.width * one.height, other.width * other.height):
        return True
    is_part = min(one.size, other.size) < 0.6 * usual
    is_near = -down < 0.15 * usual and across > 0.3 * min(one.width, other.width)
    return is_part and is_near and max(one.bottom, other.bottom) - min(one.top, other.top) < 1.3 * usual


def _in_reading_order(pieces: list[Piece]) -> list[Piece]:
    """Lines from top to bottom, each from left to right; a line may rise or fall."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.left):
        near = [line for line in lines if line[-1].top < _middle(piece) < line[-1].bottom]
        if near:
            min(near, key=lambda line: abs(_middle(line[-1]) - _middle(piece))).append(piece)
        else:
            lines.append([piece])
    lines.sort(key=lambda line: np.mean([_middle(piece) for piece in line]))
    return [piece for line in lines for piece in line]


def _middle(piece: Piece) -> float:
    return (piece.top + piece.bottom) / 2
