"""Ten digits drawn by a pen, as strokes of points from 0 to 1."""

from math import cos, radians, sin


def arc(x, y, wide, high, start, end, points=24):
    """An arc around (x, y), from one angle to another, in degrees; 90 is below the centre."""
    angles = [radians(start + (end - start) * i / points) for i in range(points + 1)]
    return [(x + wide * cos(angle), y + high * sin(angle)) for angle in angles]


DIGITS = {
    0: [arc(0.5, 0.5, 0.3, 0.42, -90, 270)],
    1: [[(0.38, 0.22), (0.52, 0.08), (0.5, 0.92)]],
    2: [[*arc(0.5, 0.3, 0.26, 0.22, -170, 20), (0.25, 0.9), (0.8, 0.88)]],
    3: [arc(0.47, 0.29, 0.24, 0.2, -150, 90) + arc(0.47, 0.7, 0.28, 0.22, -90, 150)],
    4: [[(0.55, 0.08), (0.2, 0.6), (0.85, 0.6)], [(0.62, 0.3), (0.6, 0.95)]],
    5: [[(0.75, 0.1), (0.32, 0.1), (0.28, 0.45), *arc(0.47, 0.65, 0.27, 0.24, -120, 140)]],
    6: [[(0.65, 0.08), (0.4, 0.35), *arc(0.5, 0.68, 0.24, 0.24, -170, 190)]],
    7: [[(0.2, 0.12), (0.8, 0.12), (0.42, 0.92)]],
    8: [arc(0.5, 0.29, 0.2, 0.2, 90, -270) + arc(0.5, 0.7, 0.24, 0.21, -90, 270)],
    9: [[*arc(0.5, 0.3, 0.22, 0.22, 0, -360), (0.71, 0.35), (0.62, 0.92)]],
}
