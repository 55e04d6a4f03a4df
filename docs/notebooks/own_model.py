# ---
# jupytext:
#   text_representation:
#     extension: .py
#     format_name: percent
# kernelspec:
#   display_name: Python 3
#   language: python
#   name: python3
# ---

# %% [markdown]
# # Your own model
#
# Anything that answers queries from examples can be identified: a function, a network of yours, or one that
# you train here.

# %%
import numpy as np
import torch

import insitu
from insitu.models import Architecture, AttentionNetwork, initialise
from insitu.tasks import Gaussian, LinearRegression
from insitu.training import Recipe, train

# %% [markdown]
# ## A function in NumPy
#
# It gets `xs (batch, point, dim)`, `ys (batch, point, 1)` and `queries (batch, query, dim)`, and returns an answer for every query.
# This one hides ridge regression:


# %%
def mine(xs: np.ndarray, ys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Kernel ridge with a linear kernel, which nobody would call ridge at first sight."""
    kernel = xs @ xs.swapaxes(1, 2) + 0.3 * np.eye(xs.shape[1])
    return queries @ xs.swapaxes(1, 2) @ np.linalg.solve(kernel, ys)


found = insitu.identify(mine, dim=3, count=24)
found

# %%
found.best.learner, found.best.score.distance

# %% [markdown]
# ## One that is none of the learners
#
# An answer that no textbook algorithm gives must not get a name.


# %%
def odd(xs: np.ndarray, ys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The product of the largest label and a wave."""
    return np.abs(ys).max(1, keepdims=True) * np.sin(3 * queries[..., :1])


insitu.identify(odd, dim=3, count=24).verdict

# %% [markdown]
# ## A network that is trained
#
# One layer of linear attention on noisy prompts. Theory says that it ends as one preconditioned step of gradient descent.

# %%
task = LinearRegression(Gaussian(2), noise=0.3)
network = AttentionNetwork(Architecture(dim=2, layers=1))
initialise(network, insitu.Seed(1), std=0.05)


def loss(step: int) -> torch.Tensor:
    """The mean squared error on the prompts of a step."""
    episode = task.sample(insitu.Seed(0) / "training" / step, batch=128, points=20, queries=4)
    return (network.predict(episode.prompt.to(torch.float32)) - episode.answers).square().mean()[None]


curve = [step.losses[0] for step in train(list(network.parameters()), loss, Recipe(400, rate=0.02, decay="cosine"))]
curve[0], curve[-1]

# %%
found = insitu.identify(network, points=(20,), count=60)
found

# %%
[(candidate.learner, round(candidate.score.distance, 4)) for candidate in found.ranking[:3]]

# %% [markdown]
# ## Against a reference, on the same prompts
#
# How much does it lose to the optimum? The interval is that of the difference, prompt by prompt.

# %%
best = insitu.learners.bayes_optimal(task)
insitu.compare(network, best, task, points=20)

# %% [markdown]
# `found.save_page("results/identify")` writes a page with symmetries, gain curves and the map of layers;
# [identification](../identify.md) explains what it shows.
