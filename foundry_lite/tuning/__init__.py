"""Which variant of a model suits this machine, by measurement."""
