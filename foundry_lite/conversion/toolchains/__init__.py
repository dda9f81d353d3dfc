"""Toolchains: pinned environments that conversions run in."""
