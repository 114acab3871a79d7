"""The pytest plugin: options, fixtures, hooks, known failures.

It lies outside of `aeclaims`, so that pytest can load it and not import `aeclaims`.
"""
