"""Generation behind the handlers: admission, exchange with the client, several prompts."""
