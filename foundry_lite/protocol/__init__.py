"""The wire. Pure: JSON in, domain values inside, JSON out; one file an API."""
