"""One module per way in; all end as the same facts."""
