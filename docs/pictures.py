"""Draws the pictures of the README and the guide from the package itself.

python docs/pictures.py
"""

from pathlib import Path

import torch

from insitu import Seed
from insitu.figure import Figure, Panel, line
from insitu.metrics import squared_error
from insitu.models import Causal, Mask, Prefix, gradient_descent
from insitu.report.figures import draw
from insitu.tasks import LinearRegression, UniformCube
from insitu.theory.convergence import causal_error

FOLDER = Path(__file__).with_name("pictures")
LAYERS, DIM, POINTS, RATE, PROMPTS = 100, 16, 40, 1.6, 512


def query_errors(mask: Mask) -> torch.Tensor:
    """The mean squared query error after every layer of the constructed network of Ding et al. (2024)."""
    episode = LinearRegression(UniformCube(DIM)).sample(Seed(0), PROMPTS, POINTS, queries=4)
    network = gradient_descent(dim=DIM, steps=LAYERS, rate=RATE, mask=mask)
    with torch.no_grad():
        return squared_error(network.predict_layers(episode.prompt), episode).mean(1)


def depth() -> Figure:
    """Causal against prefix query error over depth."""
    layers = range(LAYERS + 1)
    limit = causal_error(DIM, points=POINTS, second_moment=1 / 3)[-1].item()
    panel = Panel(
        "layers",
        "mean squared query error",
        (
            line("causal mask", layers, query_errors(Causal()), colour=1),
            line("causal mask, exact limit", layers, [limit] * len(layers), look="dashed", colour=1),
            line("prefix mask", layers, query_errors(Prefix()), colour=0),
        ),
        y_scale="log",
    )
    return Figure(
        (panel,),
        "The same weights under two masks.",
        "The query error of the prefix mask falls to zero with depth; that of the causal mask stalls at its limit.",
    )


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "depth.svg").write_bytes(draw(depth(), "depth").svg)


if __name__ == "__main__":
    main()
