"""Evaluation of a variant against its source: losses, cases, gate, speed."""
