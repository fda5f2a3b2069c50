"""What it adds up to, what was planned, what was signed."""
