"""The process that owns one machine's resources, workers and store; on the head's machine, the head too."""
