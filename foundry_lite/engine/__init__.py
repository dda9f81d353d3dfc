"""The engine: runs one model in a worker process of its own."""
