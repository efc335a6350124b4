"""What a process runs on: devices, compiled programs, terminal."""
