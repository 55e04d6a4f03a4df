"""Parts of the Python that reproduces a panel with the library alone."""

from insitu.explorer.setting import PROMPTS, QUERIES
from insitu.explorer.state import State

__all__ = ["prompts_code", "relative_error_code", "training_code"]


def prompts_code(state: State, *, points: int | None = None, dim: int | None = None) -> str:
    """The lines that draw the prompts of a state as ``episode``."""
    dim = dim or state.dim
    law = f"Gaussian({dim})" if state.task == "normal" else f"UniformCube({dim})"
    kind = "SigmoidRegression" if state.task == "sigmoid" else "LinearRegression"
    shifted = state.condition != 1 or state.shift != 1
    names = sorted([law.partition("(")[0], kind, *(["Shifted"] if shifted else [])])
    lines = ["import torch", "from insitu import Seed", f"from insitu.tasks import {', '.join(names)}", ""]
    lines += [f"task = {kind}({law}, noise={state.noise!r})"]
    if shifted:
        lines += [eigenvalues_code(state, dim), "rows = torch.diag(eigenvalues.sqrt()).tolist()"]
        lines += [f"task = Shifted(task, scale={state.shift!r}, transform=tuple(map(tuple, rows)))"]
    draw = f"batch={PROMPTS}, points={points or state.points}, queries={QUERIES}"
    lines += [f'episode = task.sample(Seed({state.seed}) / "explore", {draw})']
    return "\n".join(lines)


def eigenvalues_code(state: State, dim: int) -> str:
    """The lines that set ``eigenvalues``, relative to those of the isotropic law."""
    return (
        f"eigenvalues = {state.condition!r} ** -torch.linspace(0, 1, {dim}, dtype=torch.float64)\n"
        "eigenvalues = eigenvalues / eigenvalues.mean()"
    )


def training_code(state: State) -> str:
    """The lines that set ``step``, what one layer learns where inputs are not yet shifted."""
    size = "" if state.task == "normal" else " / 3"
    return (
        f"{eigenvalues_code(state, state.dim)}\n"
        f"covariance = torch.diag(eigenvalues{size})\n"
        f"step = theory.best_step(covariance, {state.trained}, noise_variance={state.noise**2!r})"
    )


def relative_error_code(state: State) -> str:
    """The function ``relative_error(learner, episode)``."""
    if state.task == "sigmoid":
        return SAMPLED
    size = "1.0" if state.task == "normal" else "1 / 3"
    return EXACT.format(eigenvalues=eigenvalues_code(state, state.dim), size=size, dim=state.dim, noise=state.noise)


EXACT = '''{eigenvalues}


def relative_error(learner, episode):
    """E (answer - w x)^2 / E (w x)^2 over weights, noise and queries, exactly; the mean over the prompts' inputs."""
    xs = episode.prompt.xs
    unit = torch.eye(xs.shape[1], dtype=xs.dtype).expand(len(xs), -1, -1)
    response = learner.weights(xs, unit)  # Weights are linear in the labels: w = y' response.
    query = {size} * eigenvalues  # Up to the shift, by which both errors are multiplied.
    missing = xs.mT @ response - torch.eye({dim}, dtype=xs.dtype)
    squares = missing.square().sum(-2) + {noise!r} ** 2 * response.square().sum(-2)
    return ((squares @ query).mean() / query.sum()).item()'''

SAMPLED = '''

def relative_error(learner, episode):
    """The mean squared error on the queries over that of answering zero."""
    missed = learner.predict(episode.prompt) - episode.answers
    return (missed.square().mean() / episode.answers.square().mean()).item()'''
