"""Who it is, where they belong when, and what they are registered in."""
