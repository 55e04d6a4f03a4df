"""Many networks of one shape as one: every weight gains a leading axis of copies."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from insitu.errors import InputError

__all__ = ["Ensemble"]

Network = TypeVar("Network", bound=nn.Module)


@final
class Ensemble(Generic[Network]):
    """Networks of one architecture whose forward passes run as one batched computation.

    Args:
        networks: The networks; their weights are copied.
        frozen: Names of weights that are not trained.

    Raises:
        InputError: If there is no network, or a frozen name is none of theirs.

    Example:
        >>> ensemble = Ensemble([nn.LayerNorm(3), nn.LayerNorm(3)])
        >>> ensemble(torch.zeros(2, 5, 3)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, networks: Sequence[Network], frozen: Sequence[str] = ()) -> None:
        if not networks:
            raise InputError("Ensemble: there is no network to stack.")
        self.networks = list(networks)
        stacked, self.buffers = stack_module_state(self.networks)
        unknown = set(frozen) - set(stacked)
        if unknown:
            raise InputError(f"Ensemble: no weight is called {min(unknown)!r}; there are: {', '.join(stacked)}.")
        self.frozen = {name: stacked.pop(name).detach() for name in frozen}
        self.shapes = {name: weight.shape[1:] for name, weight in stacked.items()}
        # One tensor is clipped, updated and stored at the cost of one; a hundred cost a hundred calls each.
        self.matrix = torch.cat([weight.detach().flatten(1) for weight in stacked.values()], dim=1).requires_grad_()

    @property
    def weights(self) -> dict[str, Tensor]:
        """Every weight by its name, each with the copies as its first axis; those that are trained are views."""
        return self.named(self.matrix) | self.frozen

    @property
    def trained(self) -> list[Tensor]:
        """The trainable parameters: one matrix, with a row per copy for all weights that are not frozen."""
        return [self.matrix]

    def __call__(self, *inputs: Tensor, **fixed: Any) -> Tensor:
        """Run every copy on its slice of the inputs' first axis; ``fixed`` arguments are the same for all."""

        def one(row: Tensor, fixed_weights: dict[str, Tensor], *slices: Tensor) -> Tensor:
            weights = self.named(row) | fixed_weights
            return functional_call(self.networks[0], weights, slices, fixed, tie_weights=False)

        return torch.vmap(one)(self.matrix, self.frozen | self.buffers, *inputs)

    def named(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows of the matrix as weights."""
        parts = zip(self.shapes.items(), rows.split([s.numel() for s in self.shapes.values()], dim=-1), strict=True)
        return {name: part.view(*rows.shape[:-1], *shape) for (name, shape), part in parts}

    def unstack(self) -> list[Network]:
        """The networks with the weights as they are now."""
        weights = self.weights
        for index, network in enumerate(self.networks):
            network.load_state_dict({name: weight[index] for name, weight in weights.items()}, strict=False)
        return self.networks
