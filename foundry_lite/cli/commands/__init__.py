"""Subcommands of `foundry-lite`, one module each."""
