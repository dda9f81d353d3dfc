"""Readers and writers of files: safetensors, torch, GGUF, ONNX, and the JSON beside weights."""
