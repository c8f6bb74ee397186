"""What only a lesson's page needs: its figures, its exercises' checks, and the notebook made from its script."""

from common.lesson import plots
from common.lesson.exercises import check

__all__ = ["check", "plots"]
