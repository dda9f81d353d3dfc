"""Export of a checkpoint, or of a ready graph, to one float32 ONNX graph."""
