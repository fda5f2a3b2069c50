"""Machinery that a bakery could use unchanged: consuming, outbox, dead letters, database, HTTP, telemetry, the running of a service."""
