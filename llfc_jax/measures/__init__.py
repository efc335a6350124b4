"""What is measured along the path from one network to another."""
