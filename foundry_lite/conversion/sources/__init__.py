"""Sources of models, detected by looking at their files: one module for each kind."""
