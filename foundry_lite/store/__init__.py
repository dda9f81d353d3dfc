"""The store of artifacts and adapters. The disk is the state."""
