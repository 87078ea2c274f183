"""Train, attack and honestly judge robust image classifiers."""
