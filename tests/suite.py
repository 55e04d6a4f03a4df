"""What holds for every test: few threads, no draw from a global generator, no tolerance out of nothing."""

import gc
import os
from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import tests.type_checks  # noqa: F401 - it takes the place of jaxtyping's decorator
import torch
from tests.rounding import Bound

from insitu import processes

torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))
# What collection makes lives until the end: going over it at every collection of garbage takes seconds.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


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


def bare(actual: object, rtol: float | None, atol: float | None) -> bool:
    """Whether numbers in single precision are compared up to a tolerance that nobody derived."""
    single = isinstance(actual, torch.Tensor) and actual.dtype in (torch.float32, torch.complex64)
    return single and not all(isinstance(tolerance, Bound) or tolerance == 0 for tolerance in (rtol, atol))


@pytest.fixture(autouse=True, scope="session")
def _derived_tolerances() -> Iterator[None]:
    """How far rounding goes in single precision depends on the machine, so a tolerance must say why it suffices."""
    plain = torch.testing.assert_close

    def assert_close(actual: object, expected: object, *, rtol: float | None = None, atol: float | None = None) -> None:
        assert not bare(actual, rtol, atol), "compare in float64, or up to a tolerance of tests/rounding.py"
        plain(actual, expected, rtol=rtol, atol=atol)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.testing, "assert_close", assert_close)
        yield


@pytest.fixture(autouse=True, scope="module")
def _what_stays_is_gone_over_once() -> Iterator[None]:
    """Modules and models that tests load stay, and every collection of garbage would go over them again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _workers_have_loaded_all() -> Iterator[None]:
    """Tests start hundreds of workers, each of which would import what optimisers do, two seconds."""
    start = processes.start_server
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "start_server", lambda *modules: start(*modules, "torch._dynamo", "insitu.sweeps"))
        yield


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Without the run-time type checks of the suite, as a user calls the library."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
