"""Machine: its processors, and progress bars on its terminal."""
