"""The wire protocol. Pure: JSON in, domain values inside, JSON out."""
