"""insitu: a laboratory for in-context learning.

A task makes prompts; a predictor answers them; answers are compared with reference learners and exact theory;
the comparison judges a claim; a report shows it.

Example:
    >>> import insitu
    >>> task = insitu.tasks.LinearRegression(insitu.tasks.Gaussian(3), noise=0.5)
    >>> ridge, one_step = insitu.load("Ridge(penalty=0.25)"), insitu.load("GradientDescent(steps=1, rate=0.5)")
    >>> insitu.compare(ridge, one_step, task, points=20).interval()[1] < 0  # ridge has the smaller error
    True
"""

from typing import TYPE_CHECKING

from insitu.lazy import lazily

if TYPE_CHECKING:
    from insitu import claims, identification, language, learners, metrics, models, papers, tasks, theory, training
    from insitu.errors import InputError
    from insitu.front_door import compare, identify, load, reproduce
    from insitu.predictor import Predictor
    from insitu.prompt import Episode, Prompt
    from insitu.seed import Seed
    from insitu.tasks.task import Task

__version__ = "0.1.0"
__all__ = [
    "Episode",
    "InputError",
    "Predictor",
    "Prompt",
    "Seed",
    "Task",
    "claims",
    "compare",
    "identification",
    "identify",
    "language",
    "learners",
    "load",
    "metrics",
    "models",
    "papers",
    "reproduce",
    "tasks",
    "theory",
    "training",
]

# Nothing is imported before it is used: torch alone takes longer than most commands.
__getattr__, __dir__ = lazily(
    __name__,
    {
        "Episode": "insitu.prompt",
        "InputError": "insitu.errors",
        "Predictor": "insitu.predictor",
        "Prompt": "insitu.prompt",
        "Seed": "insitu.seed",
        "Task": "insitu.tasks.task",
        "compare": "insitu.front_door",
        "identify": "insitu.front_door",
        "load": "insitu.front_door",
        "reproduce": "insitu.front_door",
    },
    (
        "claims",
        "identification",
        "language",
        "learners",
        "metrics",
        "models",
        "papers",
        "tasks",
        "theory",
        "training",
    ),
)
