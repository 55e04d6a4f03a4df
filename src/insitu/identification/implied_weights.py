r"""Implied weights: the gradient of an answer with respect to its query, :math:`\partial \hat y_q / \partial x_q`.

For a learner that is linear in the query they are its weights. A network gives them by automatic differentiation; a
black box only by its answers, whose best linear fit over the queries of a prompt they are then.
"""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, StepSizeWarning
from insitu.predictor import Predictor
from insitu.prompt import Prompt

__all__ = ["fitted_weights", "gradient_weights", "linearity"]


def gradient_weights(predictor: Predictor, prompt: Prompt) -> Float[Tensor, "batch query out dim"]:
    """The gradients of a predictor's answers, by automatic differentiation.

    Example:
        >>> from insitu.learners import LeastSquares
        >>> prompt = Prompt(torch.eye(2)[None].double(), torch.ones(1, 2, 1).double(), torch.ones(1, 1, 2).double())
        >>> gradient_weights(LeastSquares(), prompt)
        tensor([[[[1., 1.]]]], dtype=torch.float64)
    """
    queries = prompt.queries.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        answers = predictor.predict(Prompt(prompt.xs, prompt.ys, queries))
    if not answers.requires_grad:  # An answer that does not depend on its query.
        return answers[..., None].expand(*answers.shape, prompt.dim) * 0
    # Queries are answered apart from one another, so one sum over all of them gives each its own gradient.
    slopes = [
        torch.autograd.grad(answers[..., o].sum(), queries, retain_graph=o + 1 < prompt.out)[0]
        for o in range(prompt.out)
    ]
    return torch.stack(slopes, dim=2)


def fitted_weights(prompt: Prompt, answers: Float[Tensor, "batch query out"]) -> Float[Tensor, "batch out dim"]:
    """The weights whose answers are nearest to the given ones, prompt by prompt.

    Raises:
        InputError: If a prompt has fewer queries than dimensions.
    """
    if prompt.queries.shape[1] < prompt.dim:
        raise InputError(
            f"fitted_weights: weights in {prompt.dim} dimensions need as many queries in each prompt; got "
            f"{prompt.queries.shape[1]}."
        )
    return torch.linalg.lstsq(prompt.queries.double(), answers.double()).solution.mT


def linearity(prompt: Prompt, answers: Float[Tensor, "batch query out"]) -> float:
    """The share of the answers that no weights explain: 0 for a learner that is linear in the query."""
    missed = prompt.queries.double() @ fitted_weights(prompt, answers).mT - answers.double()
    return (missed.square().mean() / answers.double().square().mean().clamp(min=1e-300)).item()
