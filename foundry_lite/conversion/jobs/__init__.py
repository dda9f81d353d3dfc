"""Jobs of builds: their records, progress, and the cache of finished steps."""
