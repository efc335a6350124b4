"""What mends the networks on a path."""
