"""Theory: floors of losses, and the logistic regression that some of them need."""
