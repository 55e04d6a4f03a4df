"""What holds for every test is in `tests/every_test.py`, which only processes that run tests load."""

import pytest


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    hands_them_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_them_out:
        config.pluginmanager.import_plugin("tests.every_test")
