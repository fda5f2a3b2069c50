"""Notifications on the real database, broker and mail server."""
