"""Checkpoints: a float Hugging Face folder out of any source."""
