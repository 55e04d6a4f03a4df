"""
From remembering functions to regression
========================================

If training draws its functions from a finite pool, the best predictor remembers the pool; if it draws them anew, the
best one is ridge. The best predictor for a pool comes near ridge as the pool grows, sooner with fewer examples in the
prompt: it must not be possible to tell the functions apart (Raventós et al., 2023).
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import insitu
from insitu.learners import bayes_optimal
from insitu.tasks import Gaussian, LinearRegression, Pool

TASK = LinearRegression(Gaussian(4), noise=0.5)
SIZES = [2**power for power in range(13)]
POINTS = (2, 8, 32)


def distance(size: int, points: int) -> float:
    """The mean squared distance between the two best predictors, over the size of ridge's answers."""
    prompt = TASK.sample(insitu.Seed(0), batch=256, points=points, queries=2).prompt
    pool, ridge = (bayes_optimal(task).predict(prompt) for task in (Pool(TASK, size, insitu.Seed(1)), TASK))
    return ((pool - ridge).square().mean() / ridge.square().mean()).item()


def plot(axes: Axes) -> Axes:
    """A curve for each length of the prompts."""
    for colour, points in enumerate(POINTS):
        found = [distance(size, points) for size in SIZES]
        axes.loglog(SIZES, found, "osD"[colour] + "-", color=f"C{colour}", label=f"{points} examples in the prompt")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="functions in the pool", ylabel="relative squared distance to ridge")
    axes.set_title("The best predictor for a pool becomes ridge")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()
