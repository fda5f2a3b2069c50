"""What was completed, passed and confirmed, under which policy."""
