"""Everything that a run depends on: the recipe of a step, its targets, and how this run was asked for.

Only the standard library is imported here. So `--help` answers at once, also before there is an environment.
"""

import argparse
import ast
import os
import sys
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

from common.system import processes
from common.system.errors import UserError
from common.system.streams import in_notebook, ipython

ROOT = Path(__file__).resolve().parent.parent
QUICK_TRAINING_IMAGES = 128
TRAIN = ("full", "quick", "recorded")
LARGEST_SEED = 2**32 - 1  # of a larger one, PyTorch's generator on a CPU takes the lower 32 bits


@dataclass(frozen=True)
class Augmentation:
    """How a training image is changed at random before the network sees it. The defaults change nothing.

    Angles are in degrees, shifts in fractions of the image's side. Each value is drawn uniformly. With probability
    `crop_probability` the central `crop_size` x `crop_size` pixels are enlarged to the whole image, as in the sources.
    """

    rotation: float = 0.0  # from -rotation to +rotation
    translation: float = 0.0  # from -translation to +translation, along x and along y
    scale: tuple[float, float] = (1.0, 1.0)  # from the first to the second
    shear: float = 0.0  # from -shear to +shear, along x
    crop_probability: float = 0.0
    crop_size: int = 22
    interpolation: str = "nearest"  # or "bilinear"; torchvision's RandomRotation takes the nearest pixel by default
    # The hand that writes, and the pen (`common.data.handwriting`). All but the elastic change are drawn uniformly.
    hand_probability: float = 1.0  # the share of images that are changed in these ways; the others keep their hand
    stretch: float = 0.0  # the width is multiplied by a factor from 1 / (1 + stretch) to 1 + stretch
    elastic: float = 0.0  # standard deviation, in pixels, of the shifts of a coarse grid that bends the image
    stroke: float = 0.0  # from a line thinner by so many pixels on each side to one as much thicker; at most 1
    blur: float = 0.0  # from none to this share of a blurred copy; at most 1
    scan: int = 0  # the fewest dots that a coarse scanner has along 20 pixels; each has from so many to 20; 0: none
    contrast: float = 0.0  # the ink is multiplied by a factor from 1 - contrast to 1


@dataclass(frozen=True)
class Recipe:
    """What is trained and how. Equal recipes on equal data and equal machines give equal weights."""

    step: str  # "S7/block3": the lesson's file under sessions/
    epochs: int
    batch_size: int
    lr: float  # with `one_cycle` the highest, else the first
    momentum: float = 0.0
    lr_step: int | None = None  # every so many epochs the learning rate is multiplied by lr_gamma
    lr_gamma: float = 0.1
    one_cycle: float = 0.0  # over this share of all steps the learning rate rises to lr, over the rest it falls to 0
    nesterov: bool = False
    weight_decay: float = 0.0  # of kernels and dense weights; never of biases and BatchNorm
    ema_decay: float = 0.0  # of the exponential moving average of the weights, which is what is tested; 0: none
    augmentation: Augmentation = Augmentation()
    network: str = ""  # its name in common.models, where that is not the step's
    teacher: str = ""  # a network from which this one is distilled (`common.training.distillation`)
    temperature: float = 3.0  # of the softmax over the teacher's logits and the network's own, in distillation
    alpha: float = 0.9  # the distillation loss's weight; the labels' loss has 1 - alpha
    seed: int = 1


@dataclass(frozen=True)
class Target:
    """One number that a step promises: a `quantity` that `common.records.store.measure` names, and its `bound`."""

    quantity: str  # "parameters", "epochs", "test accuracy", "test accuracy in each of the last 3 epochs"
    relation: str  # "<", "<=", ">" or ">="
    bound: float  # accuracies in per cent

    def met_by(self, value: float) -> bool:
        """Whether `value`, in the bound's unit, meets the target."""
        return {
            "<": value < self.bound,
            "<=": value <= self.bound,
            ">": value > self.bound,
            ">=": value >= self.bound,
        }[self.relation]


@dataclass(frozen=True)
class Options:
    """How this run was asked for: the source of the digits, the device, the folder of the results, and so on."""

    data: str
    limit: int | None
    device: str
    protocol: str  # "held-out", "source" or "both"
    train: str  # "full"; "quick": for seconds, on a part of the digits; "recorded": what a full run left is shown
    resume: bool
    out: Path
    precision: str = "auto"
    compile: bool = False
    validate: bool = False  # measure on training images that are set aside, never on the test images
    network: str = ""  # of the step that was asked: what "auto" chooses depends on it

    @property
    def quick(self) -> bool:
        """Whether this run is a small one."""
        return self.train == "quick"

    @property
    def recorded(self) -> bool:
        """Whether this run shows what a full one left, and trains nothing."""
        return self.train == "recorded"


# The least and the most that a number may be, where that is not 0 and 1e30.
BOUNDS = {
    **dict.fromkeys(("epochs", "batch_size", "lr_step"), (1, 2**31)),
    **dict.fromkeys(("momentum", "ema_decay", "crop_probability", "translation", "alpha"), (0, 1)),
    **dict.fromkeys(("hand_probability", "stroke", "blur"), (0, 1)),
    **{
        "seed": (0, LARGEST_SEED),
        "one_cycle": (0, 0.99),
        "temperature": (0.01, 1_000),
        "scan": (0, 20),
        "rotation": (0, 360),
        "shear": (0, 89),
        "scale": (0.01, 100),
        "crop_size": (1, 28),
        "stretch": (0, 3),
        "elastic": (0, 10),
        "contrast": (0, 0.99),
    },
}
WORDS = {"interpolation": ("nearest", "bilinear")}


def with_overrides(recipe, overrides: str):
    """The recipe with other values, given as in `lr=0.05 augmentation.rotation=10`.

    Raises UserError for a name that the recipe does not have, and for a value of the wrong type or out of bounds.
    """
    for override in overrides.split():
        name, _, text = override.partition("=")
        recipe = _replaced(recipe, name.split("."), text, name)
    if overrides and recipe.nesterov and not recipe.momentum:
        raise UserError("--override: nesterov=True needs a momentum above 0.")
    return recipe


def overrides_between(recipe, other) -> str:
    """The overrides that make `other` of `recipe`, but for the seed; "" where they are equal."""
    return " ".join(_differences(recipe, other))


def non_default_fields(value) -> dict:
    """The fields of a recipe, or of its augmentation, that differ from their defaults, as a dict of plain values."""
    every = {field.name: (getattr(value, field.name), field.default) for field in fields(value)}
    chosen = {name: item for name, (item, default) in every.items() if item != default}
    return {name: non_default_fields(item) if is_dataclass(item) else item for name, item in chosen.items()}


def _replaced(part, names: list[str], text: str, whole_name: str):
    known = {field.name: getattr(part, field.name) for field in fields(part) if field.name != "step"}
    if names[0] not in known or is_dataclass(known[names[0]]) != (len(names) > 1):
        choices = ", ".join(name for name in known if not is_dataclass(known[name]))
        raise UserError(
            f"--override: there is no {whole_name!r} in a recipe; there is {choices} (see common/recipe.py)."
        )
    old = known[names[0]]
    value = _replaced(old, names[1:], text, whole_name) if len(names) > 1 else _value(text, old, whole_name)
    return replace(part, **{names[0]: value})


def _value(text: str, old, name: str):
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = text
    numbers = value if isinstance(value, tuple) else (value,)
    least, most = BOUNDS.get(name.split(".")[-1], (0, 1e30))
    numeric = [type(number) in (int, float) and least <= number <= most for number in numbers]
    right = {
        bool: type(value) is bool,
        float: type(value) is not tuple and all(numeric),
        int: type(value) is int and all(numeric),
        str: type(value) is str and value in WORDS.get(name.split(".")[-1], (value,)),
        tuple: type(value) is tuple and len(numbers) == 2 and all(numeric) and list(numbers) == sorted(numbers),
        type(None): value is None or (type(value) is int and all(numeric)),
    }
    if not right[type(old)]:
        bounds = f", from {least} to {most}" if name.split(".")[-1] in BOUNDS else ""
        raise UserError(f"--override: {name} must be something like {old!r}{bounds}, not {text!r}.")
    return float(value) if isinstance(old, float) else value


def _differences(recipe, other, prefix: str = ""):
    for field in fields(recipe):
        before, after = getattr(recipe, field.name), getattr(other, field.name)
        if is_dataclass(before):
            yield from _differences(before, after, f"{field.name}.")
        elif before != after and field.name != "seed":
            yield f"{prefix}{field.name}={after!r}".replace(" ", "")


def _given_arguments() -> list[str]:
    """The command line of the script that runs; none for cells, where it is that of Jupyter or IPython.

    IPython's `%run script.py ...` sets both `sys.argv` and `__file__`, as Python does.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if ipython() and not (script and Path(script).resolve() == Path(sys.argv[0]).resolve()):
        return []
    return sys.argv[1:]


def command_line(
    recipe: Recipe,
    train: str = "full",
    arguments: list[str] | None = None,
    environment: dict[str, str] | None = None,
) -> tuple[Recipe, Options]:
    """The step's recipe, overridden by the command line and the environment, and this run's options.

    The command line wins over COURSE_EPOCHS, COURSE_SEED, ... The cells of a notebook have no command line; there only
    the variables count. `train` is the page's own switch, one of TRAIN: a script trains in full unless --train or
    --quick says otherwise. Raises UserError with one sentence for a value that makes no sense.
    """
    if train not in TRAIN:
        raise UserError(f"TRAIN must be one of {', '.join(TRAIN)}, not {train!r}.")
    environment = os.environ if environment is None else environment
    if arguments is None:
        arguments = _given_arguments()
    parser = _parser(recipe)
    given = [f"--{name}={value}" for name, value in _from_environment(parser, environment).items()]
    try:
        parser.parse_args(given)
    except UserError as error:  # the sentence names the option; here the variable was what the user wrote
        name = str(error).split(" ")[0]
        variable = f"COURSE_{name.removeprefix('--').upper().replace('-', '_')}"
        raise UserError(str(error).replace(name, variable, 1)) from None
    values = parser.parse_args([*given, *arguments])
    train = values.train or (train if in_notebook() else "full")
    _several_processes(values.processes, train)
    if values.validate and values.protocol != "held-out":
        raise UserError("--validate measures on training images that are set aside; it has no other --protocol.")
    quick = train == "quick"
    given = {name: getattr(values, name) for name in ("epochs", "batch_size", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    recipe = replace(with_overrides(recipe, values.override), **given)
    options = Options(
        data="builtin" if quick and values.data == "auto" else values.data,
        limit=QUICK_TRAINING_IMAGES if quick and values.limit is None else values.limit,
        device=values.device,
        protocol=values.protocol,
        train=train,
        resume=values.resume,
        out=processes.own_folder(values.out or ROOT / "runs" / ("" if train == "full" else train) / recipe.step),
        precision=values.precision,
        compile=values.compile,
        validate=values.validate,
        network=recipe.network or recipe.step,
    )
    return recipe, options


def _several_processes(asked: int | None, train: str) -> None:
    """Start the script anew in the processes that --processes asks for, or take the part of one that torchrun started.

    Raises UserError where several processes would only do the same.
    """
    if (asked or 1) == 1 and processes.count() == 1:
        return
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    if in_notebook() or not script.is_file():
        raise UserError("Several processes train a script, not a notebook: leave out --processes (COURSE_PROCESSES).")
    begun = processes.count() > 1
    if begun:
        processes.begin()
    if train == "recorded" or "fit(" not in script.read_text(encoding="utf-8"):
        what = "--train recorded" if train == "recorded" else script.stem
        raise UserError(f"{what} trains no network that several processes could share; start it in one process.")
    if not begun:
        processes.launch(asked)
    elif asked not in (None, processes.count()):
        raise UserError(f"--processes {asked}: torchrun has started {processes.count()}; leave out one of the two.")


class _HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def parse_known_args(self, args=None, namespace=None):
        for option in args:  # Python before 3.13 takes the value -- for none at all
            if option.startswith("--") and option.partition("=")[2] == "--":
                raise UserError(f"{option[:-3]} cannot be '--'.")
        return super().parse_known_args(args, namespace)

    def error(self, message):
        message = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message)
        raise UserError(f"{message[0].upper()}{message[1:]}; --help lists the options.")


def _parser(recipe: Recipe) -> argparse.ArgumentParser:
    parser = _Parser(
        description=f"Train, measure and draw sessions/{recipe.step}.",
        epilog="Each option can also be set by an environment variable: COURSE_EPOCHS, COURSE_BATCH_SIZE, ...",
        formatter_class=_HelpWithDefaults,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--epochs", type=_whole("--epochs", 1), metavar="N", help=f"passes over the images (default: {recipe.epochs})")
    add(
        "--seed",
        type=_whole("--seed", 0, LARGEST_SEED),
        metavar="N",
        help=f"of all that is random (default: {recipe.seed})",
    )
    add("--batch-size", type=_whole("--batch-size", 1), metavar="N", help=f"images (default: {recipe.batch_size})")
    devices = ("auto", "cpu", "cuda", "mps")
    add("--device", type=_one_of("--device", *devices), default="auto", help="auto, cpu, cuda or mps")
    add("--data", type=_one_of("--data", "auto", "mnist", "builtin"), default="auto", help="auto, mnist or builtin")
    add("--limit", type=_whole("--limit", 1), metavar="N", help="use only the first N training images (default: all)")
    images = "what the test numbers are measured on: the test images, what the step's source used, or both in turn"
    add("--protocol", type=_one_of("--protocol", "held-out", "source", "both"), default="held-out", help=images)
    precisions = _one_of("--precision", "auto", "float32", "bfloat16")
    fast = "arithmetic of the training: auto is float32, or for some networks bfloat16 on a CPU with matrix units"
    add("--precision", type=precisions, default="auto", help=fast)
    add("--override", default="", metavar="'NAME=VALUE ...'", help="other values in the recipe, such as lr=0.05")
    add("--validate", **_switch("--validate"), help="set 5,000 training images aside and measure on them instead")
    add("--compile", **_switch("--compile"), help="compile the network where the run is long enough to gain by it")
    how = "full, quick (a small run on the built-in digits) or recorded (what a full run left, shown again)"
    add("--train", type=_one_of("--train", *TRAIN), metavar="HOW", help=f"{how}; default: full")
    quick = _switch("--quick") | {"dest": "train", "type": _quick, "const": "1", "default": None}
    add("--quick", **quick, help="the same as --train quick")
    add("--resume", **_switch("--resume"), help="go on from the last checkpoint in the output folder")
    several = "train one network in N processes, which share each batch"
    add("--processes", type=_whole("--processes", 1, 1024), default=None, metavar="N", help=f"{several} (default: 1)")
    add("--out", type=_folder, metavar="DIR", help="where the results go (default: runs/STEP in the course's folder)")
    return parser


def _switch(option: str) -> dict:
    """An option that is on when it stands there; its variable says 1 or 0."""
    return {"type": _flag(option), "nargs": "?", "const": True, "default": False, "metavar": "0|1"}


def _whole(option: str, least: int, most: int = 2**63 - 1):
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            bounds = f"of at least {least}" if value is None or value < least else f"of at most {most}"
            raise UserError(f"{option} must be a whole number {bounds}, not {text!r}.")
        return value

    return convert


def _one_of(option: str, *choices: str):
    def convert(text: str) -> str:
        if text not in choices:
            raise UserError(f"{option} must be one of {', '.join(choices)}, not {text!r}.")
        return text

    return convert


def _flag(option: str):
    def convert(text: str) -> bool:
        if text.lower() not in ("1", "0", "true", "false", "yes", "no"):
            raise UserError(f"{option} must be 1 or 0, not {text!r}.")
        return text.lower() in ("1", "true", "yes")

    return convert


def _quick(text: str) -> str | None:
    return "quick" if _flag("--quick")(text) else None


def _folder(text: str) -> Path:
    try:
        path = Path(text).expanduser().resolve()
        is_other = path.exists() and not path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"--out must be a folder that can be written, not {text!r} ({error}).") from None
    if is_other:
        raise UserError(f"--out must be a folder, but {path} is a file; choose another.")
    return path


def _from_environment(parser: argparse.ArgumentParser, environment) -> dict[str, str]:
    """The options that the environment sets, in the command line's spelling; an empty variable counts as unset."""
    names = [action.option_strings[-1].removeprefix("--") for action in parser._actions if action.dest != "help"]
    variables = {name: environment.get(f"COURSE_{name.upper().replace('-', '_')}") for name in names}
    return {name: value for name, value in variables.items() if value}
