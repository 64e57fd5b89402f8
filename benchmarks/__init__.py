"""Measurements of jray beside Ray, `ProcessPoolExecutor` and the machine's own limits."""
