"""What holds for every test: one thread, and nobody draws from a global generator."""

from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import torch

torch.set_num_threads(1)


def global_generators() -> tuple[bytes, bytes]:
    """The states of torch's and NumPy's global generators."""
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002 - the global generator is what is watched
    return torch.get_rng_state().numpy().tobytes(), keys.tobytes() + bytes(str(position), "ascii")


@pytest.fixture(autouse=True)
def _no_global_randomness() -> Iterator[None]:
    before = global_generators()
    yield
    for name, was, is_now in zip(("torch", "NumPy"), before, global_generators(), strict=True):
        assert was == is_now, f"the test drew from the global generator of {name}; draw from a Seed"


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Without the run-time type checks of the suite, as a user calls the library."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
