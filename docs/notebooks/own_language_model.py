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
# # Your own language model and data
#
# The model here is the tiny bundled one, so that the notebook runs in seconds; it knows some words and cannot classify.
# `insitu.load("smollm2")`, a folder or a GGUF file takes its place without another change.

# %%
from pathlib import Path

import torch

import insitu
from insitu.language import draw_orders, fine_tune, load_corpus, propose_template, read, zero_shot
from insitu.metrics.distributions import sensitivity, token_overlap

model = insitu.load("prose1M")
sum(weight.numel() for weight in model.network.parameters())

# %% [markdown]
# ## Your data
#
# A file with a text and a label in every row. Rows that cannot be used are counted and left out, and a template is proposed from
# the labels.

# %%
rows = [("a joy from start to end", "good"), ("dull and far too long", "bad"), ("warm, funny and wise", "good")]
rows += [("i wanted my evening back", "bad"), ("the best of the year", "good"), ("a mess without a point", "bad")]
rows += [("bright and full of life", "good"), ("loud, empty and cold", "bad"), ("it moved me to tears", "good")]
rows += [("nothing in it works", "bad"), ("a small wonder", "good"), ("tired jokes, tired plot", "bad")]
Path("reviews.csv").write_text("text,label\n" + "\n".join(f'"{text}",{label}' for text, label in rows))
corpus = load_corpus("reviews.csv")
len(corpus.train), len(corpus.test)

# %%
template = propose_template(corpus)
demonstrations = corpus.demonstrate(insitu.Seed(0) / "demonstrations", 2)
questions = [row.text for row in corpus.questions(insitu.Seed(0) / "questions", 2)]
print(template.prompt(questions[0], demonstrations))

# %% [markdown]
# ## In-context learning
#
# The probability of a label is that of its whole word behind the prompt.

# %%
answers = read(model, template, demonstrations, questions)
answers.labels.softmax(-1)

# %% [markdown]
# ## Order
#
# The same demonstrations in another order are another prompt. Gradient descent on all of them at once sees a sum, and no order.

# %%
orders = [[demonstrations[i] for i in order] for order in draw_orders(insitu.Seed(0) / "orders", 2, 2).tolist()]
prompted = torch.stack([read(model, template, order, questions).tokens for order in orders])
tuned = [next(fine_tune(model, template, order, rate=5e-3, epochs=(1,))) for order in orders]
trained = torch.stack([zero_shot(model, template, questions, weights=weights) for weights in tuned])
{"in context": sensitivity(prompted).mean().item(), "fine-tuned": sensitivity(trained).mean().item()}

# %% [markdown]
# ## Do both answer alike?
#
# The share of the ten most probable tokens that the in-context and the fine-tuned answers have in common:

# %%
token_overlap(prompted[0], trained[0]).tolist()

# %% [markdown]
# `insitu lm compare --data reviews.csv --model smollm2` does all of this with intervals, over numbers of demonstrations, rates and
# parts of the model, and says what to prefer: [prompt or fine-tune](../prompt-or-fine-tune.md).
