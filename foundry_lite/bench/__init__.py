"""Measuring what a model costs on this machine."""
