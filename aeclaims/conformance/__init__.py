"""Checks of a training stack itself, against the oracle and against float64: `pytest -m conformance`."""
