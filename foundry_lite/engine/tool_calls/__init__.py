"""Tool-call formats of model families: detection, stream readers, rendering."""
