"""Scheduling of sequences: slots, prefill policy, prompt look-up, batch invariance."""
