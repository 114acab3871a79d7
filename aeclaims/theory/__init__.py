"""Theory: floors of losses, and the logistic regression behind some of them."""
