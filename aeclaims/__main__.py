"""`python -m aeclaims` is the command `aeclaims`."""

from aeclaims.cli import app

app(prog_name="aeclaims")
