"""What travels on the wire: envelope, topics and one module per owner of events. Depends on pydantic and msgspec only."""
