"""Lightning modules, the data module and callbacks."""
