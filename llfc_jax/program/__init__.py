"""What a network computes, read off its jaxpr."""
