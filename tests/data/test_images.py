"""A user's image in MNIST's form: any mode and orientation, several digits in order, strange files."""

import io

import numpy as np
import pytest
import torch
from drawings import DIGITS
from PIL import Image, ImageOps

from common.data.images import grey_and_resize, prepare
from common.data.strokes import draw


def paper(*digits: int, big: int = 8, pen: float = 2.6) -> Image.Image:
    """Dark digits on white, side by side, each drawn by `strokes` and enlarged; not by the generator of photos."""
    images = [draw(DIGITS[digit], pen).numpy() for digit in digits]
    row = Image.fromarray(255 - np.concatenate(images, axis=1))
    return row.resize((row.width * big, row.height * big), Image.Resampling.BICUBIC)


def apart(one, other) -> float:
    """How two images [28, 28] differ, as a share of the ink; a whole pixel of place, which may be rounding, is free."""
    one, other = (np.asarray(image, dtype=float) for image in (one, other))
    moved = [np.roll(one, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return float(min(np.abs(image - other).sum() for image in moved) / other.sum())


def encoded(image, form="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def inked(image, ink: int) -> Image.Image:
    """Ink of this brightness where the image is dark, and nothing at all elsewhere."""
    return Image.merge("LA", (Image.new("L", image.size, ink), ImageOps.invert(image)))


@pytest.fixture(scope="module")
def seven():
    return prepare(paper(7)).digits[0].image


MODES = {
    "1": lambda image: image.convert("1", dither=Image.Dither.NONE),
    "L": lambda image: image,
    "LA": lambda image: image.convert("LA"),
    "P": lambda image: image.convert("P"),
    "RGB": lambda image: image.convert("RGB"),
    "RGBA": lambda image: image.convert("RGBA"),
    "CMYK": lambda image: image.convert("RGB").convert("CMYK"),
    "YCbCr": lambda image: image.convert("RGB").convert("YCbCr"),
    "HSV": lambda image: image.convert("RGB").convert("HSV"),
    "I": lambda image: image.convert("I"),
    "I;16": lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257),
    "F": lambda image: image.convert("F"),
    "ink on transparent": lambda image: Image.merge(
        "LA", (image.point(lambda value: 0), image.point(lambda v: 255 - v))
    ),
    "array": np.asarray,
    "array [H, W, 3]": lambda image: np.asarray(image.convert("RGB")),
    "array [1, H, W]": lambda image: np.asarray(image)[None],
    "floats": lambda image: np.asarray(image) / 255,
    "uint16": lambda image: np.asarray(image).astype(np.uint16) * 16,
    "tensor": lambda image: torch.from_numpy(np.array(image)),
    "PNG": encoded,
    "JPEG": lambda image: encoded(image, "JPEG", quality=90),
    "GIF": lambda image: encoded(image, "GIF", save_all=True, append_images=[paper(1), paper(2)]),
    "TIFF": lambda image: encoded(image, "TIFF", save_all=True, append_images=[paper(1)]),
    "WEBP": lambda image: encoded(image, "WEBP", lossless=True),
    "BMP": lambda image: encoded(image, "BMP"),
    "light on dark": lambda image: ImageOps.invert(image),
    "chalk on transparent": lambda image: Image.merge(
        "LA", (image.point(lambda v: 255), image.point(lambda v: 255 - v))
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_format_gives_the_same_digit(mode, seven):
    page = prepare(MODES[mode](paper(7)))
    assert len(page.digits) == 1
    assert page.light_on_dark == (mode in ("light on dark", "chalk on transparent"))
    assert apart(page.digits[0].image, seven) < (0.2 if mode == "1" else 0.04)


BACK = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
BACK |= {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
BACK |= {8: Image.Transpose.ROTATE_270}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_the_cameras_orientation_is_applied(orientation, form, seven):
    image = paper(7)
    stored = image.transpose(BACK[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert apart(prepare(encoded(stored, form, exif=exif)).digits[0].image, seven) < 0.04


def test_the_digit_is_in_mnists_form():
    for digit in range(10):
        (found,) = prepare(paper(digit)).digits
        image = found.image.numpy().astype(float)
        assert found.image.dtype == torch.uint8 and found.image.shape == (28, 28) and image.max() == 255
        rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        assert abs(image.sum(axis=1) @ np.arange(28) / image.sum() - 14) <= 0.51
        assert abs(image.sum(axis=0) @ np.arange(28) / image.sum() - 14) <= 0.51


def test_every_step_can_be_looked_at():
    (digit,) = prepare(paper(5)).digits
    shapes = {name: step.shape for name, step in digit.steps.items()}
    assert list(shapes) == ["grey", "lighting evened out", "ink", "crop", "20x20", "28x28, centred"]
    assert shapes["20x20"][0] == 20 and shapes["28x28, centred"] == (28, 28)
    assert shapes["grey"] == shapes["lighting evened out"] == shapes["ink"]


def test_digits_on_a_page_come_in_reading_order_with_their_boxes():
    first, second = paper(3, 1, 4), paper(2, 7, 8)
    sheet = Image.new("L", (first.width, 2 * first.height), 255)
    sheet.paste(first, (0, 0))
    sheet.paste(second, (0, first.height))
    digits = prepare(sheet).digits
    assert len(digits) == 6
    for found, wanted in zip(digits, (3, 1, 4, 2, 7, 8), strict=True):
        assert apart(found.image, draw(DIGITS[wanted])) < 0.35, wanted
    for position, found in enumerate(digits):
        left, top, right, bottom = found.box
        row, column = divmod(position, 3)
        assert 224 * column < left < right < 224 * (column + 1)
        assert 224 * row < top < bottom < 224 * (row + 1)


def test_a_line_that_rises_is_one_line():
    sheet = paper(3, 1, 4, 2, 7).rotate(8, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    digits = prepare(sheet).digits
    assert [digit.box[0] for digit in digits] == sorted(digit.box[0] for digit in digits) and len(digits) == 5


def test_the_bar_of_a_five_belongs_to_it():
    image = np.asarray(paper(5, big=10)).copy()
    image[:, 118:124][:90] = 255  # the pen left the paper between the bar and the rest
    assert len(prepare(image).digits) == 1


def test_a_digit_in_mnists_form_stays_as_it_is():
    image = draw(DIGITS[6])
    assert (prepare(image).digits[0].image == image).all()
    assert (prepare(255 - image).digits[0].image == image).all()


def test_the_line_of_a_thin_pen_is_as_bright_as_any():
    image = paper(2, big=20, pen=0.5)
    assert prepare(image).digits[0].image.max() == 255
    assert grey_and_resize(image).max() < 200


def test_uneven_light_does_not_matter(seven):
    dark = np.asarray(paper(7)).astype(float)
    y, x = np.mgrid[0:1:224j, 0:1:224j]
    lit = dark * (0.35 + 0.65 * x * (0.6 + 0.4 * y))
    assert apart(prepare(lit.astype(np.uint8)).digits[0].image, seven) < 0.12
