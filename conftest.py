"""Plugins that the project's own tests need, and how thorough its property tests are at night."""

from hypothesis import settings

pytest_plugins = ["pytester"]

# `pytest tests/properties --hypothesis-profile=nightly`: minutes instead of seconds.
settings.register_profile("nightly", max_examples=1000, deadline=None)
