"""
More examples can hurt: the peak at the dimension
=================================================

With noisy labels the error of least squares first falls with the number of examples, then explodes where they are as
many as the dimension, and falls again. The best penalty has no peak; a network that answers like one or the other
shows it at a glance.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import insitu
from insitu.tasks import Gaussian, LinearRegression

DIM, POINTS = 16, 48
TASK = LinearRegression(Gaussian(DIM), noise=0.5)
LEARNERS = ("LeastSquares()", "Ridge(penalty=0.25)", "Kaczmarz(passes=1)")


def plot(axes: Axes) -> Axes:
    """The median over prompts of the squared error, by the number of examples."""
    episode = TASK.sample(insitu.Seed(0), batch=512, points=POINTS, queries=4)
    for colour, expression in enumerate(LEARNERS):
        answers = insitu.load(expression).predict_prefixes(episode.prompt)
        errors = (answers - episode.answers[:, None]).square().mean((2, 3))
        axes.semilogy(
            range(1, POINTS + 1),
            errors.median(0).values,
            linestyle=("-", "--", "-")[colour],
            color=f"C{colour}",
            label=expression,
        )
    axes.axvline(DIM, color="0.5", linestyle="dotted", label="the dimension")
    axes.set(xlabel="examples in the prompt", ylabel="squared error, median (units of y²)", ylim=(0.03, 60))
    axes.set_title("The peak of least squares")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()
