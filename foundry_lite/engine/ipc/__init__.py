"""Messages and pipes between the daemon and a worker."""
