"""Conversion of a source into installed variants; `pipeline.build` is the table of contents."""
