"""Chat completions: request, messages, writer and bodies."""
