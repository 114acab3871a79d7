"""Why is my loss stuck? Theory takes a loss on your rows apart."""
