"""Rebuild: figures made again from the topics beside the live ones, compared with them, and put in their place."""
