r"""Low-rank adapters (LoRA) through PEFT: descent on few numbers beside frozen weights.

Each matrix W that PEFT adapts by default in a model's architecture, such as those of queries and values, or each whose
module is named, becomes
:math:`W + B A` with :math:`A` of r rows, drawn, and :math:`B` of r columns, zero at the start.

References:
    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022).
"""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from insitu.errors import InputError, require_package
from insitu.language.models.pretrained import LanguageModel

__all__ = ["Merge", "low_rank"]

# From trained weights, with or without a first axis over runs, to weights of the model itself.
Merge = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def low_rank(model: LanguageModel, rank: int, targets: Sequence[str] = ()) -> tuple[Any, list[str], Merge]:
    """A network with adapters that shares a model's weights, the names of A and B, and what merges them.

    Args:
        model: The model; it stays untouched.
        rank: The rank r; the factor before B A is 1.
        targets: The names of the modules to adapt, such as q_proj; those that PEFT knows for the architecture if none.

    Raises:
        InputError: If PEFT is not installed, knows no matrices to adapt in this architecture, or the rank is below 1.
    """
    require_package("training a low-rank adapter", "peft", "lora")
    from peft import LoraConfig, inject_adapter_in_model

    if rank < 1:
        raise InputError(f"lora: the rank must be at least 1; got {rank}.")
    # The modules are new ones, the weights are shared.
    kept = {id(t): t for t in (*model.network.parameters(), *model.network.buffers())}
    network = copy.deepcopy(model.network, kept)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            how = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets) or None)
            network = inject_adapter_in_model(how, network)
        except ValueError as error:
            modules = {name.rpartition(".")[2] for name, m in model.network.named_modules() if matrix_like(m)}
            raise InputError(
                f"lora: PEFT cannot adapt {model.name}: {str(error).splitlines()[0]} Name modules, as in "
                f"lora:{rank}:q_proj,v_proj; this model has {', '.join(sorted(modules))}."
            ) from None
    adapted = {name: module for name, module in network.named_modules() if hasattr(module, "lora_A")}

    def merge(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"{name}.weight": merged(module, name, weights) for name, module in adapted.items()}

    factors = [name for name, _ in network.named_parameters() if ".lora_A." in name or ".lora_B." in name]
    return network, factors, merge


def matrix_like(module: torch.nn.Module) -> bool:
    """Whether a module multiplies by one matrix."""
    return type(module).__name__ in ("Linear", "Conv1D")


def merged(module: Any, name: str, weights: Mapping[str, Tensor]) -> Tensor:
    """W + B A of every run."""
    a, b = (weights[f"{name}.lora_{side}.default.weight"] for side in "AB")
    change = b @ a
    return module.base_layer.weight.detach() + (change.mT if module.fan_in_fan_out else change)
