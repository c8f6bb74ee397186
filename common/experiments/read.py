"""Read the handwritten digits in a user's images: `python3 course.py read IMAGE...`.

Of what it reads it keeps nothing but what it writes into the output folder: read.csv, and for each image the steps of
its preparation as a figure. It sends nothing anywhere.
"""

import csv
import io
import os
import re
import sys
from pathlib import Path

from common import models
from common.data.images import SUFFIXES, prepare
from common.lesson import plots
from common.models import reading
from common.recipe import ROOT
from common.system import command_lines
from common.system.errors import UserError
from common.system.files import unwritable, write_atomically
from common.system.streams import labelled

MOST_FIGURES = 20  # images of which the steps are drawn: a figure takes about a second
MOST_ROWS = 10  # digits in one figure


class UnreadError(UserError):
    """Some of several images could not be read; each has had its sentence."""


def main(arguments: list[str] | None = None) -> None:
    """The command line. Raises UserError where an image could not be read, after all others have been read."""
    options = command_lines.read().parse_args(arguments)
    step = "/".join(Path(options.step).parts[-2:]).removesuffix(".py")
    network = models.load_trained(step)
    out = Path(options.out or ROOT / "runs" / "read")
    _make(out)
    images = find_images(options.image, out)
    print(labelled("network", f"{step}, {models.count_parameters(network):,} parameters"))
    rows, unread = [], 0
    for number, (name, path) in enumerate(images, start=1):
        try:
            rows += read(network, name, path, out if number <= MOST_FIGURES else None, number)
        except UserError as error:
            if len(images) == 1:
                raise UserError(_about(name, error)) from None
            print(_about(name, error), file=sys.stderr)
            unread += 1
    if rows:
        table = write_atomically(out / "read.csv", _as_csv(rows))
        print(labelled("written", f"{table}: {_count(len(rows), 'digit')} of {_count(len(images) - unread, 'image')}"))
    if len(images) > MOST_FIGURES:
        print(labelled("", f"Figures show the first {MOST_FIGURES} images only."))
    if unread:
        raise UnreadError(f"{unread} of {len(images)} images could not be read; each is named above.")


def read(network, name: str, path: Path, out: Path | None, number: int) -> list[tuple[str, int, int, str]]:
    """Print what the network reads in one image, and draw the steps into `out`; a row for each digit, for read.csv.

    Raises UserError for what is no image of digits, and where the figure cannot be written.
    """
    page = prepare(path)
    digits, probabilities = reading.settle(network, page)
    found = _count(len(digits), "digit")
    print(labelled("image", f"{name}: {found}{', light on dark' if page.light_on_dark else ''}"))
    rows = []
    for position, values in enumerate(probabilities, start=1):
        digit, probability = int(values.argmax()), float(values.max())
        print(labelled(f"  {position}", _answer(values)))
        rows.append((name, position, digit, f"{probability:.4f}"))
    if out is not None:
        stem = re.sub(r"[^\w.-]+", "_", Path(name).stem)[:60]
        title = name if len(name) <= 70 else f"...{name[-67:]}"
        figure = plots.preparation(digits[:MOST_ROWS], probabilities[:MOST_ROWS], title)
        plots.show(figure, out, f"{number}-{stem}")
        print(labelled("  steps", f"{out / 'figures' / f'{number}-{stem}.png'}"))
    return rows


def _answer(values) -> str:
    """The digit, its probability, whether that is sure, and all ten probabilities in per cent."""
    best, second = values.topk(2).indices.tolist()
    all_ten = "  ".join(f"{digit} {100 * float(value):.1f}" for digit, value in enumerate(values))
    probability = float(values[best])
    doubt = "" if reading.is_sure(probability) else f" not sure: it may be {second}"
    return f"{best}  {plots.percent(probability):>7}  ({all_ten}){doubt}"


def find_images(named: list[str], out: Path) -> list[tuple[str, Path]]:
    """The images that are meant, as (name, path): a file as it is named, a folder as the images in it and below it.

    A name is the path as the user gave it, so two images never share one. What lies in `out` is left out: an earlier
    call wrote it. Raises UserError for a folder without images.
    """
    found = {}
    for name in named:
        path = Path(name)
        inside = _below(path, out.resolve()) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"There is no image in {_shown(name)}; images end in {', '.join(SUFFIXES)}.")
        for one in inside:
            found.setdefault(one.absolute(), (_shown(one.as_posix()), one))
    return list(found.values())


def _below(folder: Path, out: Path) -> list[Path]:
    """The images in a folder and the folders below it, sorted; hidden ones, links to folders and `out` are left out."""

    def unreadable(error: OSError):
        raise UserError(f"The folder {_shown(str(error.filename))} cannot be read: {error.strerror}.") from None

    found = []
    for here, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if name[0] != "." and (Path(here) / name).resolve() != out]
        found += [Path(here) / name for name in files if name[0] != "." and name.lower().endswith(SUFFIXES)]
    return sorted(found)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise unwritable(out, error) from None


def _as_csv(rows: list[tuple]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "position", "digit", "probability"))
    writer.writerows(rows)
    return text.getvalue()


def _about(name: str, error: UserError) -> str:
    sentence = _shown(str(error))
    return sentence if name in sentence else f"{name}: {sentence}"


def _shown(name: str) -> str:
    """A name in which every sign can be printed: a file's name may hold line ends and broken characters."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    main()
