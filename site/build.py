"""Build the course's website into runs/site from the committed notebooks, which are never executed: `course.py site`.

The site is a folder that can be opened as it is, or served from anywhere. `sources.py` lays out its pages, `conf.py`
says how Sphinx builds them, and `extension.py` adds what Sphinx lacks.
"""

import re
import shutil
import sys
import time
import webbrowser
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from common.recipe import ROOT  # noqa: E402
from common.system import command_lines  # noqa: E402
from common.system.errors import UserError  # noqa: E402
from common.system.files import unwritable  # noqa: E402
from common.system.locks import wait_for_lock  # noqa: E402

SITE = ROOT / "runs" / "site"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # OWNER/NAME


class NotBuiltError(UserError):
    """Sphinx had something to say about the pages; the site that was there is as it was."""

    exit_code = 1


def main() -> None:
    """The command line."""
    options = command_lines.site().parse_args()
    started = time.perf_counter()
    try:
        with wait_for_lock(SITE.with_name("site.lock")):
            pages = build(SITE, options.repository)
    except OSError as error:
        raise unwritable(Path(error.filename or SITE), error) from error
    print(f"built      {SITE.relative_to(ROOT)}  {pages} pages  {time.perf_counter() - started:.0f} s")
    print(f"open       {(SITE / 'index.html').as_uri()}", flush=True)
    if options.open:
        webbrowser.open((SITE / "index.html").as_uri())


def build(folder: Path, repository: str = "") -> int:
    """Build the site into `folder`, in place of what is there, and return the number of its pages.

    It is built beside the folder and takes its place when it is whole. Raises NotBuiltError when Sphinx warns, and
    UserError when Sphinx is missing or `repository` is no OWNER/NAME.
    """
    try:
        from sphinx.application import Sphinx
    except ModuleNotFoundError:
        raise UserError("Sphinx is missing: `python3 course.py site` adds what site/requirements.txt names.") from None
    import sources

    if repository and not REPOSITORY.fullmatch(repository):
        raise UserError(f"--repository must be a repository on GitHub, such as OWNER/NAME, not {repository!r}.")
    work = folder.with_name(f".{folder.name}")
    _remove(work)
    try:
        print("laying out the pages", flush=True)
        sources.lay_out(work, repository)
        print("building, which takes about a minute", flush=True)
        app = Sphinx(
            work / "pages",
            HERE,
            work / "html",
            work / "doctrees",
            "html",
            confoverrides={"html_extra_path": [str(work / "files")]},
            status=None,
            warning=sys.stderr,
            warningiserror=True,
        )
        app.build()
        if app.statuscode:
            raise NotBuiltError(f"The site was not built: see the warnings above. {folder} is as it was.")
        _remove(folder)
        (work / "html").replace(folder)
    finally:
        _remove(work)
    return len(list(folder.rglob("*.html")))


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
