"""The checks of types that run at every call of the package in these tests, tried on functions that break them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jaxtyping
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from tests.type_checks import check
from torch import Tensor

from insitu import Prompt
from insitu.metrics.estimate import Estimate

if TYPE_CHECKING:
    from insitu import Seed

checked = jaxtyping.jaxtyped(typechecker=check)
THREE, FOUR = torch.zeros(3), torch.zeros(4)


@checked
def joined(first: Float[Tensor, " n"], second: Float[Tensor, " n"], count: int = 1) -> Float[Tensor, " n"]:
    return torch.cat([first] * count)


@checked
def outer(first: Float[Tensor, " n"], second: Float[Tensor, " m"]) -> int:
    # The n of another call is another n.
    return len(joined(second, second)) + len(first)


@checked
def quoted(first: "Float[Tensor, ' n']", second: "Float[Tensor, ' n']") -> None:
    """Annotations in quotes share their axes too."""


@checked
def halved(value: float, seed: "Seed | None" = None) -> int:
    return value / 2


@checked
@dataclass
class Pair:
    first: Float[Tensor, " n"]
    second: Float[Tensor, " n"]


def test_what_is_right_passes():
    assert joined(THREE, THREE).shape == (3,)
    assert outer(THREE, FOUR) == 7
    assert Pair(THREE, THREE).first is THREE


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: joined(THREE, FOUR),
        lambda: joined(THREE, THREE, count=2),
        lambda: joined(THREE, THREE, count="1"),
        lambda: joined(THREE.long(), THREE.long()),
        lambda: quoted(THREE, FOUR),
        lambda: halved(3),
        lambda: Pair(THREE, FOUR),
        lambda: Prompt(torch.zeros(2, 3, 4), torch.zeros(5, 3, 1), torch.zeros(2, 1, 4)),
        lambda: Estimate.mean("words"),
    ],
)
def test_what_is_wrong_does_not(wrong):
    with pytest.raises(TypeCheckError):
        wrong()


@pytest.mark.usefixtures("as_users_run")
def test_a_user_does_not_pay_for_it():
    assert halved(3) == 1.5
