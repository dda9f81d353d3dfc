"""The command `foundry`, which Foundry Local's SDK calls."""
