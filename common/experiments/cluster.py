"""The seeds of a study as jobs of Slurm: `course.py study S7/block3 --seeds 100 --on slurm:partition=long,time=60`.

submitit (https://github.com/facebookincubator/submitit) writes the batch script, puts the seeds into the queue as one
array of jobs, and on a node calls `SeedJob`. The program that asked looks into the seeds' folders, which all machines
share: a seed is finished when its record and its weights are there. It asks Slurm only which jobs are still queued or
running. So nothing depends on its memory, and when it is started again it goes on with what it finds.

A job goes on from the checkpoint of its seed, whoever starts it again: Slurm after a node has failed or was wanted for
something more urgent, submitit when the time is up, and this program when a job is gone without a result.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tqdm import tqdm

from common.experiments.seed_run import KilledError, SeedRun
from common.system import locks
from common.system.errors import UserError
from common.system.files import write_atomically

SUBMITIT = "submitit>=1.5,<2"  # as pyproject.toml has it
OPTIONS = (  # of sbatch, by submitit's names
    *("account", "comment", "constraint", "cpus_per_task", "exclude", "gpus_per_node", "gres", "mem", "mem_per_cpu"),
    *("nodelist", "partition", "qos", "signal_delay_s", "time"),
)
WHOLE = ("cpus_per_task", "gpus_per_node", "signal_delay_s", "time")
PLAN = "asked.json"  # in the study's folder of jobs: the names of the arrays, each with its seeds in their order
LOOK, QUESTION = 1.0, 15.0  # seconds between two looks into the seeds' folders, and between two questions to Slurm
STARTS = 4  # by one command of one seed; what Slurm and submitit start again by themselves does not count
TIMEOUTS = 50  # after which submitit gives up: a checkpoint comes with each epoch, so a longer time would help
WARNINGS = (signal.SIGTERM, getattr(signal, "SIGUSR2", signal.SIGTERM))  # Slurm sends them some time before the end


def options(on: str) -> dict | None:
    """What `--on` asks for: None for this machine, else options of sbatch. Raises UserError for anything else."""
    kind, _, text = on.partition(":")
    if on == "local":
        return None
    if kind != "slurm":
        raise UserError(f"--on is local, or slurm with options as in slurm:partition=long,time=60, not {on!r}.")
    found = {"time": 60, "cpus_per_task": 1}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in OPTIONS or not value:
            raise UserError(f"--on slurm takes no {part!r}; it takes NAME=VALUE with {', '.join(OPTIONS)}.")
        if name in WHOLE and not (value.isdecimal() and int(value)):
            unit = {"time": " of minutes", "signal_delay_s": " of seconds"}.get(name, "")
            raise UserError(f"--on slurm: {name} must be a whole number{unit}, not {value!r}.")
        found[name] = int(value) if name in WHOLE else value
    return found


def require() -> None:
    """Raise UserError where Slurm or submitit is missing."""
    if not shutil.which("sbatch"):
        raise UserError("--on slurm needs Slurm's commands, and there is no sbatch here: log in to the cluster first.")
    if not importlib.util.find_spec("submitit"):
        raise UserError(f"--on slurm needs submitit: `{sys.executable} -m pip install '{SUBMITIT}'` installs it.")


@dataclass
class SeedJob(SeedRun):
    """What a node does for one seed. submitit keeps it in a file, calls it there, and `checkpoint` before a requeue."""

    threads: int = 1

    def __call__(self) -> None:
        self.failure.unlink(missing_ok=True)
        with locks.wait_for_lock(self.out / locks.NAME):  # a node that was given up for lost may still be training
            pass
        if self.is_over():  # in an earlier turn, of which Slurm did not see the end
            return
        try:
            self.train(self.threads, lambda line: print(line, end="", flush=True))
        except KilledError as error:  # there is no result, so the program that asked will ask again
            print(error)
        except UserError as error:
            write_atomically(self.failure, str(error))

    def start(self, threads: int) -> subprocess.Popen:
        """Start the script deaf to Slurm's warnings, so that it trains on while this program has the job requeued."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
        try:
            return super().start(threads)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNINGS)

    def checkpoint(self):
        """The job as it is to be started again: as it stands, for what it goes on from lies in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(replace(self, process=None))

    @property
    def failure(self) -> Path:
        """Where a job says why its script failed, which trying again would not mend."""
        return self.out / "failed.txt"

    def is_over(self) -> bool:
        return self.failure.exists() or (self.record.exists() and self.weights.exists())


class Slurm:
    """The jobs of one study; which were asked for is kept in its folder, so that another command can go on."""

    def __init__(self, folder: Path, name: str, options: dict, at_once: int = 0):
        """`options` are those of sbatch; of the jobs of one array `at_once` may run together (0: as many as there is
        room for). Raises UserError where Slurm or submitit is missing.
        """
        require()
        for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
            del os.environ[name]  # what the job that this program may be was told is not meant for the jobs it asks for
        self.folder, self.name, self.options, self.at_once = folder, name.replace("/", "-"), options, at_once

    def run(self, runs: dict[int, SeedRun], finished: Callable[[int], None]) -> None:
        """Have each seed trained, and call `finished` with it at once. Raises UserError where a script fails, where
        jobs vanish again and again, and while another command waits for the same study.
        """
        jobs = {seed: self._job(run) for seed, run in runs.items()}
        starts, next_question = Counter(), 0.0
        with locks.exclusive_run_lock(self.folder), tqdm(total=len(jobs), unit="seed", disable=None) as bar:
            for job in jobs.values():
                job.failure.unlink(missing_ok=True)  # of an earlier command; this one tries again
            while True:
                over = [seed for seed, job in jobs.items() if job.is_over()]
                for seed in sorted(over, key=lambda seed: jobs[seed].failure.exists()):  # a failure ends the command
                    job = jobs.pop(seed)
                    if job.failure.exists():
                        raise UserError(f"{job.failure.read_text(encoding='utf-8')} Other seeds go on in the queue.")
                    finished(seed)
                    bar.update()
                if not jobs:
                    return
                if time.monotonic() >= next_question:
                    queued = queue(self.folder)
                    bar.set_postfix_str("Slurm does not answer" if queued is None else _told(queued, jobs))
                    if queued is not None:
                        gone = {seed: job for seed, job in jobs.items() if seed not in queued and not job.is_over()}
                        starts.update(list(gone))
                        self._start(gone, starts)
                    next_question = time.monotonic() + QUESTION
                time.sleep(LOOK)

    def _job(self, run: SeedRun) -> SeedJob:
        said = {field.name: getattr(run, field.name) for field in fields(SeedRun)}
        return SeedJob(**said, threads=self.options["cpus_per_task"])

    def _start(self, jobs: dict[int, SeedJob], starts: Counter) -> None:
        """Ask for these seeds. What is asked is written down first: so it is known whenever this program ends."""
        if not jobs:
            return
        if over := [job for seed, job in jobs.items() if starts[seed] > STARTS]:
            raise UserError(
                f"{over[0].title} was started {STARTS} times and ended each time without a result; Slurm's and the "
                f"script's last words are in {self.folder}. The same command tries again."
            )
        name = f"{self.name}-{uuid.uuid4().hex[:8]}"
        write_atomically(self.folder / PLAN, json.dumps({**_asked(self.folder), name: list(jobs)}))
        self._submit(name, jobs)

    def _submit(self, name: str, jobs: dict[int, SeedJob]) -> None:
        import submitit

        executor = submitit.SlurmExecutor(self.folder, max_num_timeout=TIMEOUTS)
        executor.update_parameters(
            job_name=name,
            array_parallelism=self.at_once or len(jobs),
            srun_args=[f"--cpus-per-task={self.options['cpus_per_task']}"],  # srun does not take it from sbatch
            additional_parameters={"requeue": True},  # after a node has failed, also where that is not the rule
            **self.options,
        )
        try:
            executor.submit_array(list(jobs.values()))
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"Slurm does not take the jobs: {str(error).strip()}") from error


def queue(folder: Path) -> dict[int, str] | None:
    """The state of each seed that has a job in the queue, such as "PENDING"; None where Slurm does not answer."""
    asked = _asked(folder)
    if not asked:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%j %i %T", f"--name={','.join(asked)}"]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        return None
    found = {}
    for line in said.stdout.splitlines():
        name, number, state = line.split()
        found[asked[name][int(number.partition("_")[2] or 0)]] = state  # 17_4; an array of one has no _
    return found


def cancel(folder: Path) -> None:
    """Take the jobs that were asked for out of the queue, and wait until the last has ended: it writes until then."""
    if asked := _asked(folder):
        require()
        for name in asked:
            subprocess.run(["scancel", f"--name={name}"], check=False, capture_output=True)
        while queue(folder) != {}:
            time.sleep(LOOK)


def _asked(folder: Path) -> dict[str, list[int]]:
    path = folder / PLAN
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _told(queued: dict[int, str], jobs: dict[int, SeedJob]) -> str:
    """How many seeds are in which state, such as "3 running, 9 pending"."""
    states = Counter(state.lower() for seed, state in queued.items() if seed in jobs)
    return ", ".join(f"{number} {state}" for state, number in states.most_common())
