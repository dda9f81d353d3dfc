"""Handlers of OpenAI's API."""
