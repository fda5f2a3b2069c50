"""The registers of territory and courses."""
