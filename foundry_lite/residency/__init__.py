"""Residency of models: which are loaded, and how each is run."""
