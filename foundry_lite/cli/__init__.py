"""Words: parses, calls, prints; decides nothing."""
