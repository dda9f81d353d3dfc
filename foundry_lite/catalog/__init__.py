"""What models are: their names, recipes and cards. Pure: no network, no state."""
