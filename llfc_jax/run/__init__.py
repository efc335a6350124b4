"""A run of the command, from configuration to report."""
