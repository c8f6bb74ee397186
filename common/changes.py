"""A recipe with some of its values replaced, by name: what a search tries, and how it is called."""

import ast
from dataclasses import fields, is_dataclass, replace

from common.errors import UserError

# The least and the most that a number may be, where that is not 0 and 1e30.
BOUNDS = {
    **dict.fromkeys(("epochs", "batch_size", "lr_step"), (1, 2**31)),
    **dict.fromkeys(("momentum", "averaging", "crop_probability", "translation", "trust"), (0, 1)),
    **{
        "seed": (0, 2**63 - 1),
        "one_cycle": (0, 0.99),
        "temperature": (0.01, 1_000),
        "rotation": (0, 360),
        "shear": (0, 89),
        "scale": (0.01, 100),
        "crop_size": (1, 28),
    },
}
WORDS = {"interpolation": ("nearest", "bilinear")}


def changed(recipe, changes: str):
    """The recipe with other values, as in `lr=0.05 augmentation.rotation=10`.

    Raises UserError for a name that the recipe does not have, or a value that is not of its kind.
    """
    for change in changes.split():
        name, _, text = change.partition("=")
        recipe = _replaced(recipe, name.split("."), text, name)
    if changes and recipe.nesterov and not recipe.momentum:
        raise UserError("--change: nesterov=True needs a momentum above 0.")
    return recipe


def difference(recipe, other) -> str:
    """What `changed` needs to make `other` of `recipe`, but for the seed; "" where that is nothing."""
    return " ".join(_differences(recipe, other))


def stated(value) -> dict:
    """What a recipe, or its augmentation, says beyond the defaults of its fields, as a dict of plain values."""
    every = {field.name: (getattr(value, field.name), field.default) for field in fields(value)}
    chosen = {name: item for name, (item, default) in every.items() if item != default}
    return {name: stated(item) if is_dataclass(item) else item for name, item in chosen.items()}


def _replaced(part, names: list[str], text: str, whole_name: str):
    known = {field.name: getattr(part, field.name) for field in fields(part) if field.name != "step"}
    if names[0] not in known or is_dataclass(known[names[0]]) != (len(names) > 1):
        choices = ", ".join(name for name in known if not is_dataclass(known[name]))
        raise UserError(f"--change: there is no {whole_name!r} to change; there is {choices} (see common/recipe.py).")
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
        raise UserError(f"--change: {name} must be something like {old!r}, not {text!r}.")
    return float(value) if isinstance(old, float) else value


def _differences(recipe, other, prefix: str = ""):
    for field in fields(recipe):
        before, after = getattr(recipe, field.name), getattr(other, field.name)
        if is_dataclass(before):
            yield from _differences(before, after, f"{field.name}.")
        elif before != after and field.name != "seed":
            yield f"{prefix}{field.name}={after!r}".replace(" ", "")
