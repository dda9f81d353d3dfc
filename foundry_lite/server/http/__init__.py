"""HTTP below the handlers: connections, guards, bodies, routing, log."""
