"""Measurements that back the figures in the documentation. Each file is a command; README.md says how to run them."""
