"""Quantization of the float32 graph into variants; run in subprocesses."""
