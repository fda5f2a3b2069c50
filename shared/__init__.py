"""What the services have in common: what travels on the wire (contracts) and machinery without a school word (chassis)."""
