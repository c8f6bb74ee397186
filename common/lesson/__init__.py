"""What only a lesson's page needs: figures, exercises, small experiments, and the notebook made from its script."""

from common.lesson import plots
from common.lesson.exercises import Exercises, check
from common.lesson.experiment import experiment

__all__ = ["Exercises", "check", "experiment", "plots"]
