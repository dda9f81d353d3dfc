"""LoRA adapters at run time: graphs that take them, and their import."""
