"""Reports of a run: results, the table, the JSON document."""
