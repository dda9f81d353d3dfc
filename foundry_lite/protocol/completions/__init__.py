"""Plain completions: request and writer."""
