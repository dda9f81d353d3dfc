"""Catalog values of a model: names, quantization recipes, cards, reports. Pure: no network, no state."""
