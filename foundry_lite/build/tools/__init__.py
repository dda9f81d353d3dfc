"""What runs inside a toolchain, as a subprocess: the only place of ours that imports torch and transformers."""
