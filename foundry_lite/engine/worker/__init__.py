"""The worker process of a decoder: input processor, sequences, output processor."""
