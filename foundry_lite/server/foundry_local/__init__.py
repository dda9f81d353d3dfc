"""Handlers of Foundry Local's routes, version 0 and 1."""
