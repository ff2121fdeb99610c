"""One verb a file: file = function = verb."""
