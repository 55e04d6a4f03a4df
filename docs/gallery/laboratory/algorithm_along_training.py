"""
Which algorithm a layer runs while it is trained
================================================

One layer of linear attention learns noisy linear regression, and its distance to four textbook algorithms is measured
all along. It begins as answering zero and ends as the one step of gradient descent that theory names, not as ridge,
which no single layer can be (:doc:`Zhang et al., 2024 </papers/zhang2024>`, theorem 4.1).
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import insitu
from insitu import theory
from insitu.models import Architecture, AttentionNetwork, initialise
from insitu.tasks import Gaussian, LinearRegression
from insitu.training import Recipe, train

DIM, POINTS, NOISE = 2, 40, 0.3
TASK = LinearRegression(Gaussian(DIM), noise=NOISE)
RATE = theory.best_step(torch.eye(DIM), length=POINTS, noise_variance=NOISE**2)[0, 0].item()
LEARNERS = {
    "zero": "Zero()",
    "the best single step of descent": f"GradientDescent(steps=1, rate={RATE})",
    "two steps of descent": f"GradientDescent(steps=2, rate={RATE})",
    "ridge, the optimum": f"Ridge(penalty={NOISE**2})",
}


def distances(every: int = 10) -> tuple[list[int], dict[str, list[float]]]:
    """The mean squared distance of the answers to those of each learner, at some steps."""
    network = AttentionNetwork(Architecture(dim=DIM, layers=1))
    initialise(network, insitu.Seed(1), std=0.05)
    prompt = TASK.sample(insitu.Seed(0) / "test", batch=256, points=POINTS, queries=4).prompt
    answers = {name: insitu.load(learner).predict(prompt) for name, learner in LEARNERS.items()}
    steps, found = [], {name: [] for name in LEARNERS}

    def loss(step: int) -> torch.Tensor:
        episode = TASK.sample(insitu.Seed(0) / "training" / step, batch=128, points=POINTS, queries=4)
        given = network.predict(episode.prompt.to(torch.float32))
        return (given - episode.answers).square().mean()[None]

    for number, _ in enumerate(train(list(network.parameters()), loss, Recipe(600, rate=0.02, decay="cosine"))):
        if number % every == 0:
            steps.append(number)
            with torch.no_grad():
                given = network.predict(prompt.to(torch.float32))
            for name, answer in answers.items():
                found[name].append((given - answer).square().mean().item())
    return steps, found


def plot(axes: Axes) -> Axes:
    """A curve for each algorithm; the lowest is the nearest."""
    steps, found = distances()
    for colour, (name, curve) in enumerate(found.items()):
        axes.semilogy(steps, curve, color=f"C{colour}", label=name)
    axes.set(xlabel="training step", ylabel="mean squared distance (units of y²)")
    axes.set_title("Distance of one layer to four algorithms")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()
