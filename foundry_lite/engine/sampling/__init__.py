"""Sampling of the next token from logits."""
