"""A terminal for a command, which shows more there than in a pipe."""

import os
import subprocess

import pytest


def shown_on_a_terminal(command: list[str], **environment: str) -> bytes:
    """Run a command on a terminal, which must exit with 0; returns its output."""
    pty = pytest.importorskip("pty", reason="no terminals to open here")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=os.environ | environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # on Linux: the other side has closed
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    return shown
