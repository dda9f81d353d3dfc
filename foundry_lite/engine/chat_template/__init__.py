"""Chat templates: their files, context, sandbox and rendering."""
