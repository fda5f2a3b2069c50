"""Periods of the reporting calendar, and the reports that were frozen on them."""
