"""``insitu explore`` at the command line, without a browser."""

import signal
import socket
import subprocess
import sys

import pytest
from tests.explorer.serving import served

from insitu import InputError
from insitu.explorer.server import free_port


def test_a_port_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match=f"port {taken.getsockname()[1]} is in use.*--port 0"):
            free_port(taken.getsockname()[1])
    assert free_port(0) > 0


def test_without_the_extra_the_command_ends_with_two():
    hidden = "import sys; sys.modules['nicegui'] = None; sys.argv = ['insitu', 'explore']"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}\nfrom insitu.cli import main\nmain()"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'insitu[explore]'" in " ".join(done.stderr.split())


def test_help_does_not_load_the_page():
    code = "import sys; import insitu.cli.app; assert not {'nicegui', 'torch', 'insitu.explorer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_interruption_ends_quietly():
    pytest.importorskip("nicegui", reason="the page needs the extra: pip install 'insitu[explore]'")
    with served() as (server, _):
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=60) == ("", "")
        assert server.returncode in (0, 130)
