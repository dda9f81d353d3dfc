"""Subprocesses of a build, most of them in a toolchain: the only place of ours that imports torch and transformers."""
