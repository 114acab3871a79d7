"""The machine: its processors, and progress bars on its terminal."""
