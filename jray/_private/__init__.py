"""The few names inside `ray._private` that programs use: everything else there is Ray's own machinery."""
