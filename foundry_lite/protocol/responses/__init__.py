"""The Responses API: request, items, queries, writer, bodies and events."""
