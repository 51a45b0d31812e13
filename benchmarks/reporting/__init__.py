"""What becomes of the results: verdicts on the targets, tables, pages, pictures."""
