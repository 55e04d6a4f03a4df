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
        >>> ensemble = Ensemble([nn.Linear(3, 2), nn.Linear(3, 2)])
        >>> ensemble(torch.zeros(2, 5, 3)).shape
        torch.Size([2, 5, 2])
    """

    def __init__(self, networks: Sequence[Network], frozen: Sequence[str] = ()) -> None:
        if not networks:
            raise InputError("Ensemble: there is no network to stack.")
        self.networks = list(networks)
        stacked, buffers = stack_module_state(self.networks)
        strange = set(frozen) - set(stacked)
        if strange:
            raise InputError(f"Ensemble: no weight is called {min(strange)!r}; there are: {', '.join(stacked)}.")
        self.buffers = buffers
        self.weights = {name: weight.detach().requires_grad_(name not in frozen) for name, weight in stacked.items()}

    @property
    def trained(self) -> list[Tensor]:
        """The weights that training updates, each with the copies as its first axis."""
        return [weight for weight in self.weights.values() if weight.requires_grad]

    def __call__(self, *inputs: Tensor, **fixed: Any) -> Tensor:
        """Run every copy on its slice of the inputs' first axis; ``fixed`` arguments are the same for all."""

        def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], *own: Tensor) -> Tensor:
            return functional_call(self.networks[0], (weights, buffers), own, fixed)

        return torch.vmap(one)(self.weights, self.buffers, *inputs)

    def unstack(self) -> list[Network]:
        """The networks with the weights as they are now."""
        for index, network in enumerate(self.networks):
            network.load_state_dict({name: weight[index] for name, weight in self.weights.items()}, strict=False)
        return self.networks
