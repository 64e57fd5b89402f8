"""The cluster's tables: jobs, actors, names, key-value pairs."""
