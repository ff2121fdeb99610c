"""How `pairs format` makes its shards: inputs, worker, repeats, the whole run."""
