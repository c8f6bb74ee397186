"""Run a step over several seeds and gather its record: `python -m common.study S7/block3 --seeds 3`.

Each seed is the step's own script in a process of its own, so that the record can only hold what a student would get.
A finished seed is written to the step's record at once; run again, the study goes on with the seeds that are missing.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import filelock

from common import records
from common.errors import UserError
from common.notebooks import kernel_environment
from common.recipe import ROOT


def main(arguments: list[str] | None = None) -> None:
    """The command line of the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", help="S7/block3, or the path of its script")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 1 to SEEDS (default: 3)")
    parser.add_argument("--anew", action="store_true", help="forget the recorded runs of this step first")
    options = parser.parse_args(arguments)
    step = options.step.removeprefix("sessions/").removesuffix(".py")
    lesson = ROOT / "sessions" / f"{step}.py"
    if not lesson.exists():
        raise UserError(f"There is no step {step}: {lesson} is missing.")
    if options.anew:
        records.path_of(step).unlink(missing_ok=True)
        shutil.rmtree(folder_of(step), ignore_errors=True)
    for seed in range(1, options.seeds + 1):
        study_run(lesson, step, seed)


def folder_of(step: str) -> Path:
    """Where the runs of a step's study work; seed 1's stays, for its checkpoint holds a whole run of the lesson."""
    return ROOT / "runs" / "study" / step


def study_run(lesson: Path, step: str, seed: int) -> None:
    """Train one seed, measured by every protocol that the step has, unless it is recorded already, and record it."""
    path = records.path_of(step)
    if path.exists() and any(run["seed"] == seed for run in records.load(path)["runs"]):
        print(f"{step}, seed {seed}: recorded already")
        return
    print(f"{step}, seed {seed}: training", flush=True)
    out = folder_of(step) / f"seed-{seed}"
    command = [sys.executable, str(lesson), "--data=mnist", "--protocol=both", f"--seed={seed}", f"--out={out}"]
    if (out / "checkpoint.pt").exists():
        command.append("--resume")
    if subprocess.run(command, env=kernel_environment(quick=False), check=False).returncode != 0:
        raise UserError(f"The study stopped: {step} with seed {seed} failed (see above); finished seeds are recorded.")
    if not (out / "record.json").exists():
        raise UserError(f"The step {step} writes no record: it trains no network that a study could compare.")
    with filelock.FileLock(f"{folder_of(step)}.lock"):
        _add(step, records.load(out / "record.json"), out)
    if seed != 1:
        shutil.rmtree(out)


def _add(step: str, found: dict, out: Path) -> None:
    """Add a finished run to the step's record, which another study may have changed in the meantime."""
    path = records.path_of(step)
    record = records.load(path) if path.exists() else {**found, "runs": [], "weights": None}
    if (found["source_sha256"], found["data"]) != (record["source_sha256"], record["data"]):
        raise UserError(f"{path} holds runs of another network, recipe or data set; --anew forgets them.")
    for run in found["runs"]:
        record = records.add_run(record, run)
    held_out = records.runs(found)[0]
    if held_out["seed"] == 1:
        record["weights"] = _keep_weights(step, out, held_out)
    records.write(path, record)


def _keep_weights(step: str, out: Path, run: dict) -> dict:
    """Put the trained weights beside the lesson, and what they scored into the record."""
    session, name = step.split("/")
    target = ROOT / "sessions" / session / "weights" / f"{name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(out / "weights.safetensors", target)
    last = run["history"][-1]
    return {
        "file": f"weights/{name}.safetensors",
        "seed": run["seed"],
        "test_correct": last["test_correct"],
        "test_total": last["test_total"],
    }


if __name__ == "__main__":
    main()
