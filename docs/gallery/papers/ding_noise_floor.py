"""
Noise leaves a floor under the causal mask
==========================================

With noisy labels one pass of projections never forgets the noise of the last examples: its error tends to a floor,
while that of least squares keeps falling. The lines of the causal mask are exact, those of least squares are means
over prompts (derived from :doc:`Ding et al., 2024 </papers/ding2024>`, proposition 5).
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import insitu
from insitu import theory
from insitu.learners import LeastSquares
from insitu.tasks import LinearRegression, UniformCube

DIM, POINTS = 16, 200
NOISES = (0.1, 0.2, 0.4)


def least_squares(noise: float) -> list[float]:
    """The mean squared error after every number of examples beyond the dimension."""
    episode = LinearRegression(UniformCube(DIM), noise=noise).sample(
        insitu.Seed(0), batch=256, points=POINTS, queries=4
    )
    answers = LeastSquares().predict_prefixes(episode.prompt)
    return (answers - episode.answers[:, None]).square().mean((0, 2, 3))[DIM + 2 :].tolist()


def plot(axes: Axes) -> Axes:
    """A colour for each noise, a stroke for each algorithm."""
    inverse = theory.convergence.uniform_inverse_square(DIM)
    for colour, noise in enumerate(NOISES):
        causal = theory.causal_error(DIM, POINTS, second_moment=1 / 3, noise=noise, inverse_square=inverse)
        axes.semilogy(range(1, POINTS + 1), causal, color=f"C{colour}", label=f"causal mask, noise {noise:g}")
        fitted = least_squares(noise)
        axes.semilogy(range(DIM + 3, POINTS + 1), fitted, color=f"C{colour}", linestyle="dashed", linewidth=1.2)
    axes.plot([], [], color="0.3", linestyle="dashed", linewidth=1.2, label="least squares")
    axes.set(xlabel="examples in the prompt", ylabel="mean squared error of a query (units of y²)")
    axes.set_title("A floor under the causal mask")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()
