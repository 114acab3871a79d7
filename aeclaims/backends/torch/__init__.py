"""The torch backends: loops as people write them, and populations trained at once."""
