"""Tuning: measures the variants of a model on this machine and chooses the one that suits it."""
