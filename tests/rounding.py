"""How far two computations of the same number may be apart: by rounding, by sampling, by print."""

import torch


class Bound(float):
    """A tolerance that was derived; comparisons in single precision take no other (`tests/suite.py`)."""


def rounding(*, terms: int, size: float = 1.0, steps: int = 1, dtype: torch.dtype = torch.float64) -> Bound:
    r"""The bound for two computations that differ in the order and the fusing of their operations only.

    A sum of n terms whose absolute values add up to s is computed within n u s, in any order, where u is half the
    spacing of numbers at 1 (Higham 2002, section 4.2). So two computations are within 2 n u s of each other, and k sums
    that follow each other without amplifying what came before within k times that.

    Args:
        terms: The length n of the longest sum.
        size: The sum s of absolute values.
        steps: How many sums follow each other, k.
        dtype: The precision in which both are computed.
    """
    return Bound(steps * terms * size * torch.finfo(dtype).eps)


def regression(features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least squares, and the standard error of every coefficient, whatever the variance of the residuals depends on.

    The errors are those of White (1980): the inverse second moment around the second moment of the scores.
    """
    solution = torch.linalg.lstsq(features, targets[:, None]).solution[:, 0]
    scores = features * (targets - features @ solution)[:, None]
    inverse = torch.linalg.inv(features.T @ features)
    return solution, (inverse @ (scores.T @ scores) @ inverse).diagonal().sqrt()
