"""Search for a better recipe on the validation images: `course.py study S8/step2_frontier --search 'lr=0.1..0.4'`.

Optuna (https://optuna.org) proposes recipes from the space. Each is trained with seed 1, and only the better half of
them with seed 2, the better half of those with seeds 3 and 4, and so on: successive halving (Jamieson and Talwalkar
2016, https://arxiv.org/abs/1502.07943), with seeds where others have epochs. So recipes are compared by the same seeds.
Every run goes into the step's log of the search. What Optuna knows is kept in a journal under runs/search; the same
command goes on with it.
"""

import contextlib
import re
import statistics
import warnings
from concurrent.futures import ThreadPoolExecutor

from common import models
from common.experiments.study import InterruptedStudyError, Study, cores, default_jobs
from common.recipe import ROOT, Recipe, with_overrides
from common.system import locks
from common.system.errors import UserError

RANGE = re.compile(r"(?P<low>[-+.\deE]+?)\.\.(?P<high>[-+.\deE]+)")


def space(text: str) -> dict:
    """Optuna's distributions by the recipe's names, of a text such as `lr=0.1..0.4 batch_size=32|64`.

    A range of whole numbers gives whole numbers. One of positive decimals that spans a factor of 3 or more is searched
    by its logarithm. Raises UserError for what is neither a range nor a choice.
    """
    from optuna import distributions as kinds

    found = {}
    for part in text.split():
        name, _, values = part.partition("=")
        choices = values.split("|")
        if bounds := RANGE.fullmatch(values):
            low, high = bounds["low"], bounds["high"]
            with contextlib.suppress(ValueError):
                if low.isdigit() and high.isdigit():
                    found[name] = kinds.IntDistribution(int(low), int(high))
                else:
                    low, high = float(low), float(high)
                    found[name] = kinds.FloatDistribution(low, high, log=low > 0 and high >= 3 * low)
        elif len(choices) > 1 and all(choices):
            found[name] = kinds.CategoricalDistribution(choices)
        if name not in found:
            raise UserError(
                f"--search: {part!r} is neither a range, as in lr=0.1..0.4, nor a choice, as in batch_size=32|64."
            )
    if not found:
        raise UserError("--search needs what may change, such as 'lr=0.1..0.4 batch_size=32|64'.")
    return found


def overrides_of(values: dict) -> str:
    """The recipe's overrides that set these values; decimals have three digits."""
    return " ".join(
        f"{name}={float(f'{value:.3g}') if isinstance(value, float) else value}" for name, value in values.items()
    )


class Search:
    """A search over the recipes of one step, in one space."""

    def __init__(self, step: str, text: str, fixed: str, seeds: int, asked: tuple[str, ...] = ("--data=mnist",)):
        """`fixed` are overrides that every trial has. Raises UserError for an unknown step and impossible values."""
        import optuna

        self.optuna, self.fixed, self.seeds, self.asked = optuna, fixed, seeds, asked
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space = space(text)
        self.step = Study(step, validate=True).step
        recipe = with_overrides(Recipe(self.step, epochs=1, batch_size=64, lr=0.1, momentum=0.9), fixed)
        for name, kind in self.space.items():
            for value in getattr(kind, "choices", None) or (kind.low, kind.high):
                models.source(
                    models.of(with_overrides(recipe, overrides_of({name: value})))
                )  # names an unknown network
        self.folder = ROOT / "runs" / "search" / self.step
        self.title = f"{fixed} {text}".strip()
        self.stopped, self.running = False, []

    def run(self, trials: int, jobs: int = 0) -> None:
        """Go on until so many recipes have been tried in all, and print what was found."""
        with locks.exclusive_run_lock(self.folder):
            self.study = self._study()
            over = self._over()
            print(f"{self.step}: {len(over)} of {trials} recipes tried already", flush=True)
            jobs = max(1, min(jobs or default_jobs(), trials - len(over)))
            with ThreadPoolExecutor(jobs) as pool:
                work = [pool.submit(self._try_one, max(1, cores() // jobs)) for _ in range(trials - len(over))]
                try:
                    for one in work:
                        one.result()
                except BaseException as error:
                    self.stopped = True
                    pool.shutdown(wait=False, cancel_futures=True)
                    for one in self.running:
                        one.stop()
                    if isinstance(error, KeyboardInterrupt):
                        raise InterruptedStudyError("Interrupted; the same command goes on where it stopped.") from None
                    raise
            print(self.summary())

    def summary(self) -> str:
        """How many recipes were tried and stopped early, the best, and how much each name mattered."""
        states = self.optuna.trial.TrialState
        over = self._over()
        whole = [one for one in over if one.state == states.COMPLETE]
        lines = [f"{len(over)} recipes tried, {len(over) - len(whole)} of them stopped before seed {self.seeds}"]
        for one in sorted(whole, key=lambda one: -one.value)[:10]:
            lines.append(f"{one.value:>9.3f} %  {self.seeds} seeds  {overrides_of(one.params)}")
        if len(whole) > 3:
            with contextlib.suppress(RuntimeError, ValueError):  # where all are equal
                parts = self.optuna.importance.get_param_importances(self.study)
                lines.append("matters: " + ", ".join(f"{name} {share:.0%}" for name, share in parts.items()))
        return "\n".join(lines)

    def _study(self):
        """Optuna's study of this space, with what an interrupted command was at to be tried again."""
        optuna, journal = self.optuna, self.optuna.storages.journal
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(self.folder / "journal.log")))
        study = optuna.create_study(
            storage=storage,
            study_name=self.title,
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        )
        begun = 1 + len(study.trials)  # a sampler with the seed of the one before would propose the same again
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=8, seed=begun, multivariate=True, constant_liar=True
        )
        for one in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(one.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(one.params)
        return study

    def _over(self) -> list:
        states = self.optuna.trial.TrialState
        return self.study.get_trials(states=(states.COMPLETE, states.PRUNED))

    def _try_one(self, threads: int) -> None:
        """Train the recipe that Optuna proposes, seed by seed, until it falls behind or has all its seeds."""
        if self.stopped:
            return
        trial = self.study.ask(self.space)
        overrides = f"{self.fixed} {overrides_of(trial.params)}".strip()
        runs = Study(self.step, validate=True, overrides=overrides, asked=self.asked)
        self.running.append(runs)
        for seed in range(1, self.seeds + 1):
            if self.stopped:
                return
            try:
                if not runs.is_recorded(seed):
                    runs.train(seed, threads, lambda epochs: None)
            except UserError as error:
                if "loss is" not in str(error):  # as `common.training.loops` says it of one that is no number
                    raise
                trial.report(0.0, seed)
                self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED)
                print(f"trial {trial.number:<4}{'diverged':<20}{overrides_of(trial.params)}", flush=True)
                return
            mean = statistics.fmean(accuracy for own, accuracy in runs.validated().items() if own <= seed)
            trial.report(mean, seed)
            if seed < self.seeds and trial.should_prune():
                self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED)
                break
        else:
            self.study.tell(trial, mean)
        ended = f"stopped after seed {seed}" if seed < self.seeds else f"{seed} seeds"
        print(f"trial {trial.number:<4}{mean:>8.3f} %  {ended:<20}{overrides_of(trial.params)}", flush=True)
