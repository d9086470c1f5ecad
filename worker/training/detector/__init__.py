"""Training of the face detector: scenes composed from portraits, targets, losses, and how well it does."""
