"""insitu: a laboratory for in-context learning.

A task makes prompts; a predictor answers them; answers are compared with reference learners and exact theory;
the comparison judges a claim; a report shows it.
"""

from insitu.errors import InputError
from insitu.predictor import Predictor
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed
from insitu.tasks.task import Task

__version__ = "0.1.0"
__all__ = ["Episode", "InputError", "Predictor", "Prompt", "Seed", "Task", "__version__"]
