"""The engines that `benchmarks.engines` sets side by side, each in a process and, if need be, a Python of its own.

The ``*_child`` modules run in the interpreter of their engine: they import the standard library, numpy,
`benchmarks.peers.lines` and that engine, and nothing else.
"""
