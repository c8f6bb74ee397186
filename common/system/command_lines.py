"""The options of course.py's commands that import much: `python -m common.system.command_lines study --help`.

Only the standard library is imported here. So each command answers --help before there is an environment.
"""

import argparse
import sys
from pathlib import Path

REPOSITORY = ""  # OWNER/NAME on GitHub, once the course is published there: the one place that says so
COMPARE = (
    "say whether two steps differ, paired by seed: STEP as recorded, 'STEP:' or 'STEP:NAME=VALUE ...' as validated"
)


def lab() -> argparse.ArgumentParser:
    """`course.py lab`; what it does not know goes on to JupyterLab."""
    about = "Open your own copies of the lessons, in work/, in JupyterLab, to which all other options go."
    parser = argparse.ArgumentParser(prog="course.py lab", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("--copies-only", action="store_true", help="make the missing copies and open nothing")
    add("--renew", nargs="+", metavar="STEP", help="make new copies of these, such as S7/block3; the old ones are kept")
    add("--answers", nargs="+", type=Path, metavar="FILE", help="tell what the checks in these notebooks said, and end")
    return parser


def notebooks() -> argparse.ArgumentParser:
    """`course.py notebooks`."""
    about = "Make each lesson's notebook from its script."
    parser = argparse.ArgumentParser(prog="course.py notebooks", description=about, allow_abbrev=False)
    parser.add_argument("step", nargs="*", help="such as S7/block3 (default: every lesson)")
    parser.add_argument("--force", action="store_true", help="execute also what has not changed")
    parser.add_argument("--reuse", action="store_true", help="take a lesson's training from its study's seed 1")
    mine = parser.add_mutually_exclusive_group()
    mine.add_argument("--keep-mine", action="store_true", help="write cells of your own from the .ipynb into the .py")
    mine.add_argument("--discard-mine", action="store_true", help="make the .ipynb anew, after a copy of it in work/")
    return parser


def read() -> argparse.ArgumentParser:
    """`course.py read`."""
    about = "Read the handwritten digits in your images; each is prepared as MNIST's were."
    parser = argparse.ArgumentParser(prog="course.py read", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("image", nargs="+", metavar="IMAGE", help="a photo or scan (PNG, JPEG, ...), or a folder of them")
    add("--step", default="S7/block3", help="whose trained network reads (default: S7/block3)")
    add("--out", metavar="DIR", help="where read.csv and the figures go (default: runs/read in the course's folder)")
    return parser


def report() -> argparse.ArgumentParser:
    """`course.py report`."""
    return argparse.ArgumentParser(
        prog="course.py report", description="Write today's numbers into every text that quotes a record."
    )


def site() -> argparse.ArgumentParser:
    """`course.py site`."""
    about = "Build the website into runs/site, from the notebooks as they are; nothing is executed."
    parser = argparse.ArgumentParser(prog="course.py site", description=about, allow_abbrev=False)
    parser.add_argument("--open", action="store_true", help="open it in your browser")
    where = "the address on GitHub, for the buttons that open a lesson in Colab, Binder and Codespaces"
    parser.add_argument("--repository", default=REPOSITORY, metavar="OWNER/NAME", help=where)
    return parser


def study() -> argparse.ArgumentParser:
    """`course.py study`."""
    about = "Run a step over several seeds and gather its record."
    parser = argparse.ArgumentParser(prog="course.py study", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("step", nargs="?", help="S7/block3, or the path of its script")
    add("--seeds", type=int, default=3, help="seeds 1 to SEEDS (default: 3)")
    add("--jobs", type=int, default=0, help="how many at once (default: one for each core, at most 8; 4 on a GPU)")
    where = "this machine, or a cluster's queue with options of sbatch: slurm:partition=long,time=60,cpus_per_task=2"
    add("--on", default="local", metavar="local|slurm[:OPTIONS]", help=f"{where} (default: local)")
    add("--validate", action="store_true", help="measure on 5,000 training images, for the log of the search")
    add("--override", default="", metavar="'NAME=VALUE ...'", help="with --validate: other values in the recipe")
    add("--search", default="", metavar="'NAME=LOW..HIGH NAME=A|B'", help="try recipes of this space, by --validate")
    add("--trials", type=int, default=20, help="with --search: how many recipes in all (default: 20)")
    add("--network", default="", help="train this network by the step's recipe; it gets a record of its own")
    add("--anew", action="store_true", help="first forget these runs, recorded or broken off")
    add("--compare", nargs=2, metavar=("A", "B"), help=COMPARE)
    return parser


if __name__ == "__main__":
    commands = {"lab": lab, "notebooks": notebooks, "read": read, "report": report, "site": site, "study": study}
    commands[sys.argv[1]]().parse_args(sys.argv[2:])
