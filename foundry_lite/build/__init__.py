"""How a source becomes an artifact; `pipeline.build` is the table of contents."""
