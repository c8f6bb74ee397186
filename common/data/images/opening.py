"""Any image as brightness: a file, bytes, a PIL image or an array, of any size, mode and orientation.

Files are somebody else's, so nothing is believed: what is no regular file is not opened, and the size is read from the
header before a pixel is decoded. Pillow decodes; only the formats in `FORMATS` are tried, none of which starts another
program.
"""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common.system.errors import UserError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm")
LONGEST = 1200  # pixels of the longer side that is worked on; a digit on a full page still has 30 or more
MOST_PIXELS = 64_000_000  # 64 megapixels, decoded, are 256 MB
MOST_BYTES = 256 * 2**20
EXAMPLES = "a PNG or a JPEG"


def brightness(source) -> tuple[np.ndarray, float]:
    """The image as float32 [height, width], 0 is black and 1 white, and by how much it was made smaller (at most 1).

    `source` is a path, bytes, a PIL image, or an array or tensor [H, W], [H, W, C] or [C, H, W] with C = 1, 2, 3 or 4.
    Of an animation it is the first frame. The orientation that a camera noted (EXIF) is applied. Transparent pixels
    are paper: white under dark ink, black under light ink. Bytes are from 0 to 255; other numbers from 0 to 1, or else
    from their least to their greatest. The longer side is at most 1,200 pixels.

    Raises UserError for what is no image, is damaged, is empty, or has over 64 million pixels.
    """
    if isinstance(source, Image.Image):
        return _of_picture(source, "The image")
    if isinstance(source, bytes | bytearray | memoryview):
        return _of_file(io.BytesIO(bytes(source)), len(source), "The image")
    if isinstance(source, str | os.PathLike):
        return _of_path(source)
    return _of_array(source)


def _of_path(path) -> tuple[np.ndarray, float]:
    name = str(path)
    try:
        path = Path(path).expanduser()
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{name} is a folder, not an image; name an image in it.")
        if not stat.S_ISREG(status.st_mode):  # a device or a pipe might never end
            raise UserError(f"{name} is no ordinary file; name an image, such as {EXAMPLES}.")
        with path.open("rb") as file:
            return _of_file(file, status.st_size, name)
    except FileNotFoundError:
        raise UserError(f"There is no file {name}; name an image, such as {EXAMPLES}.") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} cannot be read ({_one_line(reason)}); name an image, such as {EXAMPLES}.") from None


def _of_file(file, size: int, name: str) -> tuple[np.ndarray, float]:
    if size == 0:
        raise UserError(f"{name} is empty: it has no bytes; name an image, such as {EXAMPLES}.")
    if size > MOST_BYTES:
        raise UserError(f"{name} has {size:,} bytes, and an image may have {MOST_BYTES:,}; save it smaller.")
    start = file.read(12)
    file.seek(0)
    if start[4:8] == b"ftyp":
        raise UserError(f"{name} is in a format that cannot be read here (HEIC, AVIF or a video); save it as JPEG.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd headers; what matters becomes a sentence
            with Image.open(file, formats=FORMATS) as picture:
                return _of_picture(picture, name)
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} is no image that can be read here; save it as {EXAMPLES}.") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name} has over {MOST_PIXELS:,} pixels; save it smaller.") from None
    except UserError:
        raise
    except Exception as error:  # decoders of damaged files raise of everything: SyntaxError, struct.error, IndexError
        raise UserError(f"{name} is damaged ({_one_line(error)}); save or copy it again.") from None


def _of_picture(picture: Image.Image, name: str) -> tuple[np.ndarray, float]:
    _check_size(picture.width, picture.height, name)
    orientation = picture.getexif().get(0x0112) if hasattr(picture, "getexif") else None
    longer = max(picture.size)
    if picture.format in ("JPEG", "MPO"):  # MPO: a phone's JPEG with two frames
        picture.draft(picture.mode, (LONGEST, LONGEST))  # decodes at 1/2, 1/4 or 1/8 of the size where that is enough
    picture.load()
    wide = max(1, max(picture.size) // LONGEST)  # whole blocks first: an enormous image becomes small before anything
    if picture.mode.startswith(("I", "F")):
        values = _ranged(np.asarray(picture)[::wide, ::wide].astype(np.float32), name)
        alpha = None
    else:
        transparent = "A" in picture.getbands() or "transparency" in picture.info
        picture = picture.convert("RGBA" if transparent else "RGB" if picture.mode in ("P", "CMYK") else picture.mode)
        picture = picture.reduce(wide) if wide > 1 and picture.mode != "1" else picture
        alpha = np.asarray(picture.getchannel("A"), dtype=np.float32) / 255 if transparent else None
        values = np.asarray(picture.convert("L"), dtype=np.float32) / 255
    values = _on_paper(values, alpha)
    values = _turned(values, orientation)
    values = _smaller(values)
    return values, max(values.shape) / longer


def _of_array(source) -> tuple[np.ndarray, float]:
    expected = "a path, bytes, a PIL image, or an array [H, W], [H, W, C] or [C, H, W] with 1 to 4 channels"
    try:
        array = source.detach().cpu().numpy() if isinstance(source, torch.Tensor) else np.asarray(source)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray(None)
    if array.dtype.kind not in "buif":
        raise UserError(f"An image is {expected}, not a {type(source).__name__}.")
    if array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4) and array.shape[0] in (1, 2, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise UserError(f"An image is {expected}, not an array {list(array.shape)}.")
    _check_size(array.shape[1], array.shape[0], "The image")
    longer = max(array.shape[:2])
    if array.dtype == np.uint8:
        values = array.astype(np.float32) / 255
    else:
        values = _ranged(array.astype(np.float32), "The image")
    if array.ndim == 3:
        channels = array.shape[2]
        alpha = values[..., -1] if channels in (2, 4) else None
        values = values[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) if channels >= 3 else values[..., 0]
        values = _on_paper(values, alpha)
    values = _smaller(values)
    return values, max(values.shape) / longer


def _check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise UserError(f"{name} is empty: it has {width} x {height} pixels.")
    if width * height > MOST_PIXELS:
        raise UserError(f"{name} has {width:,} x {height:,} pixels, over {MOST_PIXELS:,}; save it smaller.")


def _ranged(values: np.ndarray, name: str) -> np.ndarray:
    """Numbers of no fixed range: from 0 to 1 as they are, else from their least to their greatest."""
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds nan or inf; give finite numbers.")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values
    return (values - low) / max(high - low, 1e-30)


def _on_paper(values: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """What is transparent becomes paper: white where the ink is dark, black where it is light."""
    if alpha is None or alpha.min() > 0.99:
        return values
    ink = float((values * alpha).sum() / max(alpha.sum(), 1e-6))
    return values * alpha + (1 - alpha) * (ink < 0.5)


def _turned(values: np.ndarray, orientation: int | None) -> np.ndarray:
    """As the camera was held; EXIF numbers the eight ways from 1 to 8."""
    if orientation in (5, 6, 7, 8):
        values = values.T
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _smaller(values: np.ndarray) -> np.ndarray:
    """Not over `LONGEST` pixels on the longer side, and each pixel the mean of those that it stands for."""
    height, width = values.shape
    if max(height, width) <= LONGEST:
        return np.ascontiguousarray(values, dtype=np.float32)
    scale = LONGEST / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.array(Image.fromarray(np.ascontiguousarray(values, dtype=np.float32)).resize(size, Image.Resampling.BOX))


def _one_line(reason) -> str:
    return " ".join(str(reason).split())[:120] or type(reason).__name__
