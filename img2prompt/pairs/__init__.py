"""Prompt-image pairs: images in, prompts in files, data sets, the storybook world. No torch in here."""
