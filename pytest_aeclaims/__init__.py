"""The pytest plugin: options, fixtures, hooks, known failures. Outside `aeclaims`: pytest need not import it."""
