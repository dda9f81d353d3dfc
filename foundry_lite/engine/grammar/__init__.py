"""Grammars that hold an answer to a schema, an expression or a tool call."""
