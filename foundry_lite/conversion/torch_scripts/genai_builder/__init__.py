"""Additions to onnxruntime-genai's model builder: architectures and patches."""
