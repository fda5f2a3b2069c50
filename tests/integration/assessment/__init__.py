"""Assessment on the real database and broker."""
