"""A terminal for a command: what is shown on it, which no pipe sees."""

import os
import subprocess

import pytest


def shown_on_a_terminal(command: list[str], **environment: str) -> bytes:
    """All that the command writes to a terminal; it must end with 0."""
    pty = pytest.importorskip("pty", reason="no terminals to open here")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=os.environ | environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side has closed
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    return shown
