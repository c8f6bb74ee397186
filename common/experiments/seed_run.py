"""One seed of a study: the step's own script in a process of its own, on this machine or on a node of a cluster."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.system.environment import kernel_environment
from common.system.errors import UserError


class KilledError(UserError):
    """A signal ended the script. Nothing is wrong with it, so another try may do better."""


@dataclass
class SeedRun:
    """What is trained for one seed, and where its checkpoint, record and weights go."""

    title: str  # for messages: "S7/block3 with seed 3"
    script: Path
    options: list[str]  # of the script, but for --resume
    out: Path
    process: subprocess.Popen | None = None

    @property
    def record(self) -> Path:
        return self.out / "record.json"

    @property
    def weights(self) -> Path:
        return self.out / "weights.safetensors"

    def train(self, threads: int, heard: Callable[[str], None]) -> None:
        """Train from the last checkpoint where there is one; `heard` gets each line that the script prints.

        Raises UserError with the script's last lines where it fails, KilledError where a signal ended it.
        """
        log = []
        self.process = process = self.start(threads)
        with process:
            try:
                for line in process.stdout:
                    log.append(line)
                    heard(line)
            except BaseException:
                process.kill()
                raise
        if code := process.returncode:
            way_out = "; --anew forgets what was broken off" if "--resume" in process.args else ""
            raise (KilledError if code < 0 else UserError)(
                f"{''.join(log[-20:])}The study stopped: {self.title} failed. Finished seeds are recorded{way_out}."
            )
        if not self.record.exists():
            step = f"{self.script.parent.name}/{self.script.stem}"
            raise UserError(f"The step {step} writes no record: it trains no network that a study could compare.")

    def start(self, threads: int) -> subprocess.Popen:
        """Start the script; it ends when this program ends, however that happens (`common.system.child`)."""
        resume = ["--resume"] if (self.out / "checkpoint.pt").exists() else []
        return subprocess.Popen(
            [sys.executable, "-m", "common.system.child", str(self.script), *self.options, *resume],
            env={"OMP_NUM_THREADS": str(threads)} | kernel_environment("full"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )

    def stop(self) -> None:
        """End the script if it runs; it goes on from its checkpoint another time."""
        if self.process:
            self.process.terminate()
