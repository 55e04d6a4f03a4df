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
# # Teaching: in-context learning as gradient descent
#
# A lesson of an hour. At its end the class has seen why a layer of attention can be a step of gradient descent, what depth adds,
# and what a causal mask takes away.

# %%
import matplotlib.pyplot as plt
import torch

import insitu
from insitu.learners import GradientDescent, LeastSquares
from insitu.models import Causal, Prefix, gradient_descent
from insitu.tasks import Gaussian, LinearRegression

plt.style.use("insitu.style")

# %% [markdown]
# ## 1. A prompt is a data set
#
# Three examples of a function in the plane, and a query. Nothing else is given.

# %%
xs = torch.tensor([[[1.0, 0.2], [0.5, 1.0], [-0.6, 0.8]]], dtype=torch.float64)
ys = torch.tensor([[[1.2], [1.9], [0.1]]], dtype=torch.float64)
query = torch.tensor([[[1.0, 1.0]]], dtype=torch.float64)
prompt = insitu.Prompt(xs, ys, query)
prompt

# %% [markdown]
# ## 2. One step, two ways
#
# One step of gradient descent from zero has the weights $w = \frac{\eta}{n} \sum_i y_i x_i$, so it answers
# $w \cdot x_q = \frac{\eta}{n} \sum_i y_i\,(x_i \cdot x_q)$. Read it again: a sum over the examples of their values, weighted by the
# product of key and query. That is linear attention.

# %%
rate, n = 1.2, 3
weights = rate / n * (ys * xs).sum(1)
attention = rate / n * ((xs @ query.mT) * ys).sum(1)
(weights @ query[0, 0]).item(), attention.item(), GradientDescent(steps=1, rate=rate).predict(prompt).item()

# %% [markdown]
# ## 3. A network that does it
#
# The weights of a real attention network can be set so that every layer takes one step. Its answers are those of gradient descent
# at every depth:

# %%
network = gradient_descent(dim=2, steps=20, rate=rate)
with torch.no_grad():
    layers = network.predict_layers(prompt)[:, 0, 0, 0]
steps = [GradientDescent(steps=k, rate=rate).predict(prompt).item() for k in range(1, 21)]
max(abs(layer.item() - step) for layer, step in zip(layers[1:], steps, strict=True))

# %% [markdown]
# ## 4. What depth adds
#
# More layers are more steps, and the answer tends to that of least squares. Ask the class where the curve of the causal mask ends,
# before showing it.

# %% mystnb={"image": {"alt": "The answers of the prefix mask approach least squares over the layers, those of the causal mask another value."}}
figure, axes = plt.subplots()
for mask, name in ((Prefix(), "prefix mask"), (Causal(), "causal mask")):
    with torch.no_grad():
        axes.plot(gradient_descent(2, 40, rate, mask=mask).predict_layers(prompt)[:, 0, 0, 0], "o-", label=name)
axes.axhline(LeastSquares().predict(prompt).item(), color="0.3", linestyle="dashed", label="least squares")
axes.set(xlabel="layers", ylabel="answer to the query")
axes.legend()
plt.show()

# %% [markdown]
# ## 5. Why the order matters under a causal mask
#
# Under the causal mask an example cannot correct what earlier ones said. In the limit each is fitted in turn, so the last has the
# last word. Turn the prompt around:

# %%
backwards = insitu.Prompt(xs.flip(1), ys.flip(1), query)
with torch.no_grad():
    for mask in (Prefix(), Causal()):
        deep = gradient_descent(2, 400, rate, mask=mask)
        print(mask, round(deep.predict(prompt).item(), 4), round(deep.predict(backwards).item(), 4))

# %% [markdown]
# ## 6. An exercise
#
# Which learning rate makes the fastest network, and which one makes it diverge? `insitu.theory.best_rate` and `step_limit` have the
# answers for any prompt.

# %%
from insitu import theory

theory.best_rate(xs).item(), theory.step_limit(xs, "prefix").item(), theory.step_limit(xs, "causal").item()

# %% [markdown]
# ## 7. Does a trained network find this?
#
# The figure [which algorithm a layer runs while it is trained](../examples/laboratory/algorithm_along_training.rst) shows that one
# does; over many prompts, comparing errors tells how good each algorithm is:

# %%
task = LinearRegression(Gaussian(3), noise=0.5)
for expression in ("GradientDescent(steps=1, rate=0.5)", "GradientDescent(steps=4, rate=0.3)", "Kaczmarz(passes=1)"):
    low, high = insitu.compare(insitu.load(expression), insitu.learners.bayes_optimal(task), task).interval()
    print(f"{expression:<36} loses {low:.3f} to {high:.3f} to the optimum")
