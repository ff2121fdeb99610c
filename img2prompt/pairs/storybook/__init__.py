"""A procedural world of scenes, prompts and pictures with known truth."""
