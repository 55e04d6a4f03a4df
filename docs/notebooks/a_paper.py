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
# # A paper from end to end
#
# Ding et al. (2024) state that a causal mask is not optimal for in-context learning. We build their network, look at it, ask
# theory how far it falls short, and run one of their claims.

# %%
import matplotlib.pyplot as plt
import torch

import insitu
from insitu import theory
from insitu.learners import Kaczmarz, LeastSquares
from insitu.metrics import largest_gap, squared_error
from insitu.models import Causal, Prefix, gradient_descent
from insitu.tasks import LinearRegression, UniformCube

plt.style.use("insitu.style")

# %% [markdown]
# ## The prompts
#
# Forty examples of a linear function in sixteen dimensions, without noise, as in the paper.

# %%
task = LinearRegression(UniformCube(16))
episode = task.sample(insitu.Seed(0), batch=256, points=40, queries=4)
episode.prompt

# %% [markdown]
# ## One set of weights, two masks
#
# The weights make every layer a step of gradient descent. Only the mask differs.

# %%
networks = {mask: gradient_descent(dim=16, steps=100, rate=1.6, mask=mask) for mask in (Prefix(), Causal())}
with torch.no_grad():
    layers = {mask: network.predict_layers(episode.prompt) for mask, network in networks.items()}
errors = {mask: squared_error(answers, episode).mean(1) for mask, answers in layers.items()}
{str(mask): curve[-1].item() for mask, curve in errors.items()}

# %% mystnb={"image": {"alt": "With the prefix mask the error falls over the layers, with the causal mask it stays above its exact limit."}}
limit = theory.causal_error(16, points=40, second_moment=1 / 3)[-1].item()
figure, axes = plt.subplots()
for mask, curve in errors.items():
    axes.semilogy(curve, label=f"{mask}")
axes.axhline(limit, color="C1", linestyle="dashed", label="exact limit of the causal mask")
axes.set(xlabel="layers", ylabel="mean squared error of a query (units of y²)")
axes.legend()
plt.show()

# %% [markdown]
# ## What the networks become
#
# In the limit of infinite depth the prefix mask is least squares, and the causal mask is one pass of Kaczmarz's projections. On a
# prompt with few dimensions that limit is reached soon:

# %%
small = LinearRegression(UniformCube(3)).sample(insitu.Seed(0), batch=16, points=8, queries=2).prompt
deep = {mask: gradient_descent(dim=3, steps=3000, rate=1.0, mask=mask) for mask in (Prefix(), Causal())}
with torch.no_grad():
    answers = {mask: network.predict(small) for mask, network in deep.items()}
largest_gap(answers[Prefix()], LeastSquares().predict(small)), largest_gap(answers[Causal()], Kaczmarz().predict(small))

# %% [markdown]
# ## A claim and its verdict
#
# A claim has a rule that was written before its run. `reproduce` measures, judges and stores it; the record has every number.

# %%
records = insitu.reproduce("ding2024.causal-reaches-one-online-pass", out="claims", workers=1)
print(records)

# %%
record = records[0]
print(record.statement)
for check in record.checks:
    print(f"{check['verdict']:>9}  {check['quantity']} {check['bound']}: {float(check['value']):.3g}")

# %% [markdown]
# `records.save_page()` writes the report with its figures; the [page of the paper](../papers/ding2024.md) has all its claims.
