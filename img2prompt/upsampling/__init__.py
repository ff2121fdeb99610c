"""What an upsampler is made of: templates, limits, checks, a cache and the ways to ask a language model."""
