"""Runners: the seam to onnxruntime and onnxruntime-genai, KV cache, providers."""
