"""Files that are whole or absent, and networks on disk."""
