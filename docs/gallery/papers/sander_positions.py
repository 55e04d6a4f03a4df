"""
Where attention by position looks
=================================

A layer that attends by position alone learns one weight for every earlier position. If the angles of the rotations are
spread over the whole circle only the last position helps; the more they are concentrated, the more earlier positions it
uses (:doc:`Sander et al., 2024 </papers/sander2024>`, figure 6).
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from insitu import theory

LENGTH = 12
CONCENTRATIONS = (1.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def weights(concentration: float) -> np.ndarray:
    """The learned weights of the earlier positions for the longest sequence."""
    positions = theory.Positions(theory.arc_moments(LENGTH, concentration=concentration))
    return positions.descend(rate=1.0, stop=1e-6, most=3000).positions[-1].numpy()


def plot(axes: Axes) -> Axes:
    """A row for each law of the angles; darker is a larger weight."""
    rows = np.array([weights(c) for c in CONCENTRATIONS])
    limit = np.abs(rows).max()
    image = axes.imshow(rows, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(LENGTH), [str(place - LENGTH + 1) for place in range(LENGTH)])
    axes.set_yticks(range(len(CONCENTRATIONS)), [f"{360 / c:g}°" for c in CONCENTRATIONS])
    axes.set(xlabel="position, counted from the last entry", ylabel="arc of the angles")
    axes.set_title("Weights of earlier positions")
    axes.figure.colorbar(image, ax=axes, label="weight")
    axes.grid(False)
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()
