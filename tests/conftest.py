"""What holds for every test is in `tests/suite.py`, which only processes that run tests load."""

import os

import pytest

# Tests run on all cores, and NumPy's products would start as many threads again in each of the processes, which inherit
# this: a fit by SciPy took four times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("TEST_THREADS", "1"))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    hands_them_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_them_out:
        config.pluginmanager.import_plugin("tests.suite")
