"""Handlers for the administrator: builds and jobs."""
