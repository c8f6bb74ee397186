"""What a record must look like, as pydantic models; a damaged one is refused where it is read.

Whoever reads a record can rely on these fields. A record holds more (its recipe, the machine, the losses), which is
shown and never computed with, and which older records may lack.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

LARGEST = 2**24  # bytes of a record's file; the course's own have a thousandth
MOST = 10**12  # for counts, seconds and losses, so that no arithmetic overflows
TOO_MANY = "more images are correct than there are"

Count = Annotated[int, Field(ge=0, le=MOST)]
Total = Annotated[int, Field(ge=1, le=MOST)]
Number = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]


class _Form(BaseModel):
    """Nothing is converted: "1" and True are no counts. Other fields are allowed."""

    model_config = ConfigDict(strict=True)


class Epoch(_Form):
    """One epoch: how many images were read correctly, while training and in the test after it."""

    epoch: Count  # from 1
    train_correct: Count
    train_total: Total
    test_correct: Count
    test_total: Total

    @model_validator(mode="after")
    def _no_more_correct_than_there_are(self):
        _require(self.train_correct <= self.train_total and self.test_correct <= self.test_total, TOO_MANY)
        return self


class Run(_Form):
    """One seed, trained to the end and measured by one protocol."""

    seed: int
    host: str = ""  # the machine's name; records from before November 2026 lack it
    machine: str = ""  # its processor, cores and system
    protocol: str  # "held-out", "source" or "validation"
    seconds: Number
    processes: Annotated[int, Field(ge=2)] = 1  # that trained the network together; a run of one does not say it
    history: list[Epoch] = Field(min_length=1)

    @model_validator(mode="after")
    def _epochs_in_order(self):
        _require([row.epoch for row in self.history] == list(range(1, 1 + len(self.history))), "an epoch is missing")
        return self


class ValidatedRun(_Form):
    """One seed of a trial, measured on the validation images after each epoch."""

    seed: int
    host: str = ""
    machine: str = ""
    precision: str
    loss: Number
    correct: list[Count] = Field(min_length=1)  # by epoch
    total: Total

    @model_validator(mode="after")
    def _no_more_correct_than_there_are(self):
        _require(max(self.correct) <= self.total, TOO_MANY)
        return self


class Trial(_Form):
    """A recipe that was tried, named by its overrides of the step's own."""

    overrides: str
    recipe: dict
    runs: list[ValidatedRun] = Field(min_length=1)


class Weights(_Form):
    """Which run's weights are kept, and what they scored."""

    seed: int
    test_correct: Count
    test_total: Total

    @model_validator(mode="after")
    def _no_more_correct_than_there_are(self):
        _require(self.test_correct <= self.test_total, TOO_MANY)
        return self


class Record(_Form):
    """A step's record. One without runs may lack what the runs bring: a record can begin with a search."""

    parameters: Count | None = None
    data: dict | None = None
    runs: list[Run]
    search: list[Trial] = []
    weights: Weights | None = None

    @model_validator(mode="after")
    def _runs_have_a_network_and_data(self):
        _require(not self.runs or None not in (self.parameters, self.data), "its parameters or its data are missing")
        return self


def check(record) -> None:
    """Raise ValueError, with the first thing that is wrong, unless `record` has a record's form."""
    try:
        Record.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place, wrong = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}: {wrong}" if place else wrong) from None


def _require(right: bool, wrong: str) -> None:
    if not right:
        raise ValueError(wrong)
