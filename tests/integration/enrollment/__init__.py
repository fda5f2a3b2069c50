"""Enrollment on a real database."""
