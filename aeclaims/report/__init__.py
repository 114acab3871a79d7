"""What is told of a run: results, the table, the JSON document."""
