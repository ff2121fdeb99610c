"""Parts of the removal of near-duplicates: bounds, exact and approximate ways."""
