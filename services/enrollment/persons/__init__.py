"""Persons behind accounts, under pseudonyms, with their dated residences and groups."""
