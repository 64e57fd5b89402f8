"""Messages between processes: framing, connections, and the loop that waits for them."""
