"""Why is my loss stuck: what theory says about a loss on somebody's own rows."""
