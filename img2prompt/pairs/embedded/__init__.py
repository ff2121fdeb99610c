"""Prompts inside image files: containers, fields, and what each generator writes."""
