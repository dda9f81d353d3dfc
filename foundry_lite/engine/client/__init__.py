"""The daemon's side of a worker: engine, generations, process, queries."""
