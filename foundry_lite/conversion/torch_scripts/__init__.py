"""Scripts that import torch, run as subprocesses in a toolchain."""
