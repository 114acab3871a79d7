"""Run the `aeclaims` command as `python -m aeclaims`."""

from aeclaims.cli import app

app(prog_name="aeclaims")
