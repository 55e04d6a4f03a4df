r"""Shen, Mishra, Khashabi: Do pretrained Transformers Learn In-Context by Gradient Descent? (ICML 2024).

The paper asks whether a language model pretrained on natural text answers, after :math:`N` demonstrations in its
context, as gradient descent on the same demonstrations would make it answer. It looks at three things: whether both
depend on the order of the demonstrations alike (:mod:`~insitu.papers.shen2024.orders`), whether their answers are the
same distributions (:mod:`~insitu.papers.shen2024.overlaps`), and whether pretrained weights look like those that were
constructed to run descent (:mod:`~insitu.papers.shen2024.sparsity`).

Demonstrations and questions are drawn among the texts that are short enough for the context window; no drawn prompt
is ever skipped or cut. Every interval is over demonstration sets, which are drawn independently, on the same questions.
At quick scale the model is the small one that is bundled: a verdict there speaks of that model.
"""

from insitu.claims import Paper
from insitu.papers.shen2024 import orders, overlaps, sparsity

__all__ = ["PAPER"]

PAPER = Paper(
    id="shen2024",
    title="Do pretrained Transformers Learn In-Context by Gradient Descent?",
    authors="Lingfeng Shen, Aayush Mishra, Daniel Khashabi",
    venue="ICML 2024",
    claims=(*sparsity.CLAIMS, *orders.CLAIMS, *overlaps.CLAIMS),
    headline="token-overlap-stays-below-reading",
)
