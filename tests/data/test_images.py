"""A user's image in MNIST's form: any mode and orientation, several digits in order, strange files."""

import io
import os
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import DIGITS
from PIL import Image, ImageOps
from scipy import ndimage
from skimage import data

from common.data.images import grey_and_resize, prepare
from common.data.strokes import draw
from common.system.errors import UserError


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


# --- Strange and damaged images --------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    """A PNG with this size in its header and a few bytes of image."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


rng = np.random.default_rng(0)
SPOT = np.hypot(*np.mgrid[-100:100, -100:100]) < 40
NO_DIGITS = {
    "no bytes": b"",
    "one byte": b"\0",
    "text": b"Seven.",
    "only a PNG's signature": b"\x89PNG\r\n\x1a\n",
    "only a JPEG's first bytes": b"\xff\xd8\xff\xe0",
    "GIF without frames": b"GIF89a" + bytes(7) + b";",
    "bomb": png_that_claims(50_000, 50_000),
    "bomb in 16 bits": png_that_claims(50_000, 50_000, 16, 6),
    "largest PNG": png_that_claims(2**31 - 1, 2**31 - 1),
    "one row, very wide": png_that_claims(2**31 - 1, 1),
    "no width": png_that_claims(0, 10),
    "size without pixels": png_that_claims(3_000, 3_000),
    "unknown bits": png_that_claims(10, 10, 7),
    "bomb in a GIF": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0" + bytes(6) + b"," + bytes(30),
    "bomb in a BMP": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "bomb in a PPM": b"P6 60000 60000 255\n" + bytes(100),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
    "PDF": b"%PDF-1.7\n",
    "ZIP": b"PK\x03\x04" + bytes(100),
    "random bytes": rng.bytes(5_000),
    "half a JPEG": encoded(paper(7), "JPEG")[:1500],
    "half a PNG": encoded(paper(7))[:600],
    "half a WEBP": encoded(paper(7), "WEBP", lossless=True)[:300],
    "half a TIFF": encoded(paper(7), "TIFF")[:900],
    "white": np.full((300, 400), 255, np.uint8),
    "black": np.zeros((300, 400), np.uint8),
    "grey": np.full((28, 28), 127, np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "one black pixel in white": np.pad(np.zeros((1, 1), np.uint8), 50, constant_values=255),
    "no pixels": np.zeros((0, 0), np.uint8),
    "no rows": np.zeros((0, 28), np.uint8),
    "one column": np.zeros((3_000, 1), np.uint8),
    "one row": np.tile(np.uint8([0, 255]), 2_000)[None],
    "noise": rng.integers(0, 256, (300, 400), dtype=np.uint8),
    "faint noise": rng.normal(200, 8, (300, 400)).clip(0, 255).astype(np.uint8),
    "specks": np.where(rng.random((300, 400)) < 0.01, 0, 255).astype(np.uint8),
    "gradient": np.tile(np.linspace(0, 255, 400, dtype=np.uint8), (300, 1)),
    "chequers": np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((40, 40))).astype(np.uint8) * 255,
    "a spot": np.where(SPOT, 0, 255).astype(np.uint8),
    "a white spot": np.where(SPOT, 255, 0).astype(np.uint8),
    "clouds": (lambda a: (a - a.min()) / np.ptp(a))(ndimage.gaussian_filter(rng.normal(size=(300, 300)), 20)),
    "all transparent": np.zeros((100, 100, 4), np.uint8),
    "nan": np.full((100, 100), np.nan),
    "inf": np.pad(np.full((1, 1), np.inf), 50),
    "five channels": np.zeros((100, 100, 5), np.uint8),
    "four dimensions": np.zeros((1, 1, 28, 28), np.uint8),
    "a number": 7,
    "nothing": None,
    "a list of words": ["seven"],
    "complex numbers": np.zeros((28, 28), complex),
    "uneven rows": [[1, 2], [3]],
    "a camera man": data.camera(),
    "a cat": data.chelsea(),
    "an astronaut": data.astronaut(),
    "coins": data.coins(),
    "a cell": data.cell(),
    "the moon": data.moon(),
    "a cup": data.coffee(),
    "a clock": data.clock(),
    "a rocket": data.rocket(),
    "bricks": data.brick(),
    "grass": data.grass(),
    "a printed page": data.page(),
    "stars": data.hubble_deep_field(),
}


@pytest.mark.parametrize("name", NO_DIGITS)
def test_what_shows_no_digits_is_refused_in_one_sentence_with_little_memory(name):
    before = memory()
    with pytest.raises(UserError) as error:
        prepare(NO_DIGITS[name])
    assert memory() - before < 500e6
    assert "\n" not in str(error.value) and str(error.value).endswith(".") and len(str(error.value)) < 300


def memory() -> int:
    """The most memory that this process has had, in bytes; what the system does not tell is 0."""
    if sys.platform != "linux":
        return 0
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def test_sixty_megapixels_are_read_with_little_memory():
    large = paper(7).resize((7_700, 7_700), Image.Resampling.NEAREST).convert("RGB")
    file = encoded(large, compress_level=1)
    del large
    before = memory()
    assert len(prepare(file).digits) == 1
    assert memory() - before < 700e6


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_ordinary_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path in (
        tmp_path / "pipe.png",
        tmp_path,
        "/dev/zero",
        "/dev/null",
        tmp_path / "loop.png",
        "",
        "a\0b",
        "x" * 300,
    ):
        with pytest.raises(UserError, match=r"^[^\n]*\.$"):
            prepare(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_a_damaged_file_gives_a_result_or_a_sentence(form, request):
    """Pieces cut out, changed or put in at random places: 25 times for each format, 300 times in the full form."""
    whole = encoded(paper(4, 2, big=3).convert("RGB"), form)
    random = np.random.default_rng(len(form))
    for _ in range(300 if request.config.getoption("--faults-full") else 25):
        content = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            start, length = random.integers(0, len(content) + 1), random.integers(0, 40)
            content[start : start + length] = random.bytes(random.integers(0, 40))
        if random.random() < 0.3:
            content = content[: random.integers(0, len(content) + 1)]
        try:
            assert prepare(bytes(content)).images.shape[1:] == (28, 28)
        except UserError as error:
            assert "\n" not in str(error) and str(error).endswith(".")


# --- Digits that the generator of photos did not make ----------------------------------------------------------------


@pytest.mark.parametrize("pen", [2.6, 3.6])
def test_a_digit_in_mnists_form_drawn_big_comes_back(pen):
    distances = [
        apart(prepare(paper(digit, big=12, pen=pen)).digits[0].image, draw(DIGITS[digit], pen)) for digit in DIGITS
    ]
    assert max(distances) < 0.35


def test_touching_digits_are_offered_as_parts():
    (wide,) = prepare(touching(0, 0)).digits
    assert len(wide.parts) == 2
    left, _, right, _ = wide.box
    assert all(0.35 < (part.box[2] - part.box[0]) / (right - left) < 0.65 for part in wide.parts)
    assert not prepare(paper(0)).digits[0].parts


def touching(*digits: int) -> Image.Image:
    """Digits side by side so near that they touch."""
    images = [draw(DIGITS[digit]).numpy() for digit in digits]
    trimmed = [image[:, (image > 128).any(axis=0)] for image in images]
    row = np.pad(np.concatenate(trimmed, axis=1), 8)
    return Image.fromarray(255 - row).resize((8 * row.shape[1], 8 * row.shape[0]), Image.Resampling.BICUBIC)
