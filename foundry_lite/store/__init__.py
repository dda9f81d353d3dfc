"""Where artifacts are. The disk is the state."""
