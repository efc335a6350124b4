"""The line between two networks, and the one pass over data along it."""
