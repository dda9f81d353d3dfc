"""The HTTP server: handlers of a few lines; daemon.py composes everything."""
