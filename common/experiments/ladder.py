"""The ablation ladder from S7 block 3's recipe to S8's: ten changes, one at a time, as they were measured.

Every rung was trained on 55,000 training images with five seeds and measured on the 5,000 others, after the last
epoch. The runs are in the search's log of the top's record. One rule of correction holds on every page: ten
comparisons were planned, so one of them is called a gain or a loss below p = 0.05 / 10 (Bonferroni), and "perhaps"
below 0.05.
"""

from dataclasses import dataclass, replace

from common import records
from common.recipe import Augmentation, Recipe, overrides_between
from common.records import comparison, search_log

TOP = "S8/step7_two_budgets"
FROM_THE_TOP = [  # what a rung adds, and the values that stand there without it
    ("nine views", {"network": "S8/under_8k_one_view"}),
    ("a teacher", {"teacher": ""}),
    ("SiLU", {"network": "S8/under_8k_relu"}),
    ("separable convolutions", {"network": "S8/under_8k_dense"}),
    ("an EMA of the weights", {"ema_decay": 0.0}),
    ("affine augmentation", {"augmentation": Augmentation(rotation=5, crop_probability=0.1)}),
    ("weight decay on the kernels", {"weight_decay": 0.0}),
    ("Nesterov momentum", {"nesterov": False}),
    ("a one-cycle rate", {"one_cycle": 0.0, "epochs": 14, "batch_size": 64, "lr": 0.02, "momentum": 0.8}),
    ("without dropout", {"step": "S7/block3", "network": ""}),
]


@dataclass(frozen=True)
class Rung:
    """A recipe of the ladder, and what it adds to the one below it."""

    number: int  # 0 is block 3 as it is
    title: str
    recipe: Recipe

    def validated(self, epoch: int = -1) -> dict[int, float]:
        """Accuracy on the validation images by seed, in per cent, after an epoch counted from 1 (-1: the last)."""
        return search_log.validated(self.recipe, epoch)

    def command(self) -> str:
        """What trains it with five seeds."""
        top = top_recipe()
        overrides = overrides_between(top, self.recipe) if self.recipe.step == top.step else ""
        return f"course.py study {self.recipe.step} --validate --seeds 5" + (
            f' --override "{overrides}"' * bool(overrides)
        )


def top_recipe() -> Recipe:
    """The recipe of the top, as its record has it."""
    return replace(records.recipe_of(TOP, records.load(TOP)["recipe"]), seed=1)


def rungs() -> list[Rung]:
    """All eleven, the lowest first. Each is the one above it with one thing taken away."""
    recipe, found = top_recipe(), []
    for title, without in FROM_THE_TOP:
        found.append((title, recipe))
        recipe = replace(recipe, **without)
    found.append(("block 3 as it is", recipe))
    return [Rung(number, title, recipe) for number, (title, recipe) in enumerate(reversed(found))]


def rung(title: str) -> Rung:
    """The rung that adds what `title` names. Raises KeyError where none does."""
    return {one.title: one for one in rungs()}[title]


def below(one: Rung) -> Rung:
    """The rung under it."""
    return rungs()[one.number - 1]


def differences(title: str) -> dict[int, float]:
    """What the rung adds to the one below it, in points, by seed."""
    one = rung(title)
    before, after = below(one).validated(), one.validated()
    return {seed: after[seed] - before[seed] for seed in sorted(before.keys() & after.keys())}


def verdict(p: float, comparisons: int = len(FROM_THE_TOP)) -> str:
    """What is said of a comparison with this p-value that is one of so many."""
    return "told from chance" if p < 0.05 / comparisons else "perhaps" if p < 0.05 else "not told from chance"


def line(title: str) -> str:
    """What the rung adds, in one line: difference, interval, pairs, and what may be said of it."""
    one = rung(title)
    found = comparison.paired(below(one).validated(), one.validated())
    return (
        f"{title}: {found.difference:+.3f} points, 95 % interval {found.low:+.3f} to {found.high:+.3f} "
        f"({found.seeds} seeds, one of {len(FROM_THE_TOP)} comparisons), p = {found.p:.2g}: {verdict(found.p)}"
    )
