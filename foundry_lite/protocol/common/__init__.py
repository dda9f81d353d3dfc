"""Fields that several APIs share: sampling, output format, usage, timings."""
