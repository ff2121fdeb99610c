"""The loop: picture -> prompt -> rich prompt -> pictures again -> how close they come, and the report of it."""
