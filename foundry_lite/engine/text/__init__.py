"""Tokenizer, detokenizer, special tokens and stop strings."""
