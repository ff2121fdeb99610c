"""One file a model family, each the only importer of its library."""
