"""The formats of prompt-image pairs, one row each in `rows.FORMATS`, and their readers."""
