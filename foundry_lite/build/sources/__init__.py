"""What a folder or file is, recognised by looking: one module for each kind of source."""
