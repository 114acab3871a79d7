"""The suite judges itself: what a user's CI runs, on stacks with a fault each: `pytest --claims-selftest`."""
