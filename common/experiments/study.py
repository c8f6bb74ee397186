"""Run a step over several seeds and gather its record: `python -m common.experiments.study S7/block3 --seeds 3`.

Each seed is the step's own script in a process of its own, so that the record can only hold what a student would get;
several run side by side and share the cores. A finished seed is written to the step's record at once; run again, the
study goes on with the seeds that are missing, and in these with the epoch that is missing.

With --validate nothing is trained on all images or measured on a test image: the runs train on 55,000 images, are
measured on the 5,000 others, and go into the record's log of the search. Tuning may look at nothing else.

With --on slurm the seeds are jobs on a cluster (`common.experiments.cluster`), each computed by the same code.

With --network NAME the step's recipe trains another of the networks in `common.models`; the record is named after it.
"""

import hashlib
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from common import models, records
from common.experiments import cluster
from common.experiments.seed_run import SeedRun
from common.recipe import LARGEST_SEED, ROOT
from common.records import comparison, search_log
from common.system import command_lines, locks
from common.system.errors import UserError
from common.system.files import write_together

EPOCH = re.compile(r"epoch +\d+/(\d+) ")  # how `common.training.loops.log_line` begins


class InterruptedStudyError(UserError):
    """Ctrl-C: nothing is lost."""

    exit_code = 130  # 128 + SIGINT, as shells expect


def main(arguments: list[str] | None = None) -> None:
    """The command line of the study."""
    options = command_lines.study().parse_args(arguments)
    if options.compare:
        print(comparison.text(*options.compare))
        return
    if not options.step:
        raise UserError("The study needs a step, such as S7/block3, or --compare with two of them.")
    if not 1 <= options.seeds <= LARGEST_SEED or options.jobs < 0:
        raise UserError(f"--seeds must be at least 1 and at most {LARGEST_SEED}, and --jobs at least 0.")
    on = cluster.options(options.on)
    if options.search:
        if options.network or options.anew or options.trials < 1 or on:
            raise UserError(
                "--search takes --trials of at least 1, and neither --network, --anew nor --on: see its --help."
            )
        from common.experiments.search import Search

        Search(options.step, options.search, options.override, options.seeds).run(options.trials, options.jobs)
        return
    study = Study(options.step, options.validate, options.override, options.network)
    if on:
        cluster.require()
    if options.anew:
        study.forget()
    study.run(options.seeds, options.jobs, on)


class Study:
    """One step by its own recipe, with its own network or another; on the validation images also with overrides."""

    def __init__(
        self,
        step: str,
        validate: bool = False,
        overrides: str = "",
        network: str = "",
        asked: tuple[str, ...] = ("--data=mnist",),
    ):
        """Raises UserError for an unknown step or network, and for overrides that would be measured on the test images.

        `asked` are the lesson's options beside those of the study: a test asks for few images of the built-in digits.
        """
        self.step = "/".join(Path(step).parts[-2:]).removesuffix(".py")
        self.name = network or self.step
        self.record = records.path_of(self.name)
        self.lesson = ROOT / "sessions" / f"{self.step}.py"
        if not self.lesson.exists():
            raise UserError(f"There is no step {self.step}: {self.lesson} is missing.")
        if overrides and not validate:
            raise UserError("--override needs --validate: what is only tried is measured on the validation images.")
        if network and validate:
            raise UserError(f"--validate logs a network with its step; use --override \"network='{network}'\".")
        if network and (ROOT / "sessions" / f"{network}.py").exists():
            raise UserError(f"{network} is a step of its own, with its own recipe; study it without --network.")
        if network:
            models.build(network)
        self.asked = asked
        self.validate, self.title = validate, f"{self.name} {overrides}".strip()
        self.overrides = f"network='{network}'" if network else overrides
        self.folder = ROOT / "runs" / "study" / self.name  # seed 1's checkpoint in it holds a whole run of the lesson
        if validate:
            self.folder = self.folder / "validation" / _file_name(overrides or "recipe")
        self.running: list[SeedRun] = []
        self.stopped = False

    def forget(self) -> None:
        """Drop the recorded runs, or with `validate` those of these overrides in the log, and what is left of them."""
        cluster.cancel(self.folder / "jobs")
        if self.record.exists():
            record = records.load(self.record)
            kept = search_log.without(record, self.overrides) if self.validate else records.without_runs(record)
            records.write(self.record, kept)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, seeds: int, jobs: int = 0, on: dict | None = None) -> None:
        """Train the seeds from 1 to `seeds` that are missing, `jobs` at a time; a finished one is recorded at once.

        `on` are the options for Slurm (`common.experiments.cluster`); without them the seeds are trained here.
        """
        missing = [seed for seed in range(1, seeds + 1) if not self.is_recorded(seed)]
        print(f"{self.title}: {seeds - len(missing)} of {seeds} seeds recorded already", flush=True)
        try:
            if on:
                slurm = cluster.Slurm(self.folder / "jobs", self.name, on, jobs)
                slurm.run({seed: self.seed_run(seed) for seed in missing}, self._record)
            else:
                self._run_here(missing, jobs)
        except KeyboardInterrupt:
            jobs_go_on = "the jobs go on, and the same command gathers them" if on else ""
            said = jobs_go_on or "the same command goes on where it stopped"
            raise InterruptedStudyError(f"Interrupted; {said}.") from None
        if others := records.other_processors(self._runs()):
            print(records.mark(others))

    def _run_here(self, missing: list[int], jobs: int) -> None:
        """Train the seeds on this machine, side by side."""
        jobs = max(1, min(jobs or default_jobs(), len(missing)))
        with tqdm(unit="epoch", disable=None) as bar, ThreadPoolExecutor(jobs) as pool:

            def advance(epochs: int) -> None:
                bar.total = len(missing) * epochs
                bar.update()

            work = [pool.submit(self.train, seed, max(1, cores() // jobs), advance) for seed in missing]
            try:
                for one in work:
                    one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def stop(self) -> None:
        """End the runs that are under way; the next study goes on from their checkpoints."""
        self.stopped = True
        for one in self.running:
            one.stop()

    def validated(self) -> dict[int, float]:
        """Accuracy on the validation images by seed, in per cent, as the log of the search has it."""
        return search_log.accuracies(search_log.trial(records.load_if_any(self.name), self.overrides))

    def is_recorded(self, seed: int) -> bool:
        return any(run["seed"] == seed for run in self._runs())

    def _runs(self) -> list[dict]:
        """What is recorded, a run for each seed."""
        record = records.load_if_any(self.name)
        if self.validate:
            return (search_log.trial(record, self.overrides) or {"runs": []})["runs"]
        return list({run["seed"]: run for run in record["runs"]}.values())

    def seed_run(self, seed: int) -> SeedRun:
        """One seed's script with its options: what is trained here or on a cluster."""
        out = self.folder / f"seed-{seed}"
        options = [*self.asked, f"--seed={seed}", f"--out={out}", f"--override={self.overrides}"]
        options.append("--validate" if self.validate else "--protocol=both")
        return SeedRun(f"{self.title} with seed {seed}", self.lesson, options, out)

    def train(self, seed: int, threads: int, advance) -> None:
        """Train one seed here, from its last checkpoint where there is one, and record it."""
        if self.stopped:
            return
        run = self.seed_run(seed)
        self.running.append(run)

        def heard(line: str) -> None:
            if epoch := EPOCH.match(line):
                advance(int(epoch[1]))

        try:
            run.train(threads, heard)
        except UserError:
            self.stopped = True
            raise
        self._record(seed)

    def _record(self, seed: int) -> None:
        """Add a seed whose script has ended to the record."""
        found = records.load(self.seed_run(seed).record)
        self._add(found)
        tqdm.write(f"{self.title}, seed {seed}: recorded")

    def _add(self, found: dict) -> None:
        """Add a finished run to the step's record, which another study may have changed in the meantime."""
        with locks.wait_for_lock(ROOT / "runs" / "study" / f"{self.name}.lock"):
            record = records.load_if_any(self.name) | {"step": self.step}
            beside = {}
            if self.validate:
                record = search_log.add(record, self.overrides, found)
            else:
                record = records.add_runs(record, found, self.record)
                record["weights"], beside = self._keep_weights(record)
                record["summary"] = comparison.summary(record)
            write_together({**beside, self.record: records.as_text(record)})

    def _keep_weights(self, record: dict) -> tuple[dict, dict[Path, bytes]]:
        """What the record says of the weights of the seed nearest the mean, and what is to be written beside it."""
        session, name = self.name.split("/")
        target = ROOT / "sessions" / session / "weights" / f"{name}.safetensors"
        mean, kept = records.summarise(record).mean, record.get("weights")

        def trained(run: dict) -> Path:
            return self.folder / f"seed-{run['seed']}" / "weights.safetensors"

        def is_kept(run: dict) -> bool:
            return kept is not None and kept["seed"] == run["seed"]

        at_hand = [run for run in records.runs(record) if is_kept(run) or trained(run).exists()]
        nearest = min(at_hand, key=lambda run: abs(records.accuracy(run) - mean))
        if not trained(nearest).exists():
            return kept, {}
        last = nearest["history"][-1]
        counts = {"test_correct": last["test_correct"], "test_total": last["test_total"]}
        # Kept weights are written again: a study that was killed between its two files may have left others there.
        said = {"file": f"weights/{name}.safetensors", "seed": nearest["seed"], **counts}
        return said, {target: trained(nearest).read_bytes()}


def _file_name(overrides: str) -> str:
    """A folder's name for these overrides. File systems take 255 bytes; the end of a longer name becomes a hash."""
    name = re.sub(r"[^\w.=-]+", "_", overrides)
    return name if len(name.encode()) <= 200 else f"{name[:180]}-{hashlib.sha256(overrides.encode()).hexdigest()[:12]}"


def default_jobs() -> int:
    """How many runs share this machine: one for each core, where a second thread gains little; on a GPU four."""
    return 4 if torch.cuda.is_available() else min(8, cores())


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":
    main()
