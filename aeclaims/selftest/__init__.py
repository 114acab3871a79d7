"""The self-test of the suite: `pytest --claims-selftest` runs your CI's checks on stacks with one fault each."""
