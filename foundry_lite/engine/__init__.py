"""Running one model, in a process of its own."""
