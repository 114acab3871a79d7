"""Checks of a training stack itself, against the reference and against float64: `pytest -m conformance`."""
