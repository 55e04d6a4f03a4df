"""The program with its page, as a user starts it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

COMMAND = [sys.executable, "-W", "error", "-m", "insitu", "explore", "--no-browser", "--port", "0"]
# NiceGUI serves nothing in a process that looks like a test.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@contextlib.contextmanager
def served(*options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The program and the address of its page, once somebody listens there."""
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    with subprocess.Popen([*COMMAND, *options], **how) as server:
        try:
            address = server.stdout.readline().split()[3]
            wait_for(int(address.split(":")[2].rstrip("/")), server)
            yield server, address
        finally:
            server.terminate()


def wait_for(port: int, server: subprocess.Popen) -> None:
    """Return when something listens."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, server.stderr.read()
        time.sleep(0.1)
    raise AssertionError("the server did not start within a minute")
