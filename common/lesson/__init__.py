"""What only a page needs: figures, exercises, small experiments, sliders, and the notebook made from its script."""

from common.lesson import plots
from common.lesson.exercises import Exercises, check
from common.lesson.experiment import experiment
from common.lesson.pad import drawing_pad
from common.lesson.sliders import slider

__all__ = ["Exercises", "check", "drawing_pad", "experiment", "plots", "slider"]
