"""What a driver and a worker have in common: submitting work, owning objects, waiting for values."""
