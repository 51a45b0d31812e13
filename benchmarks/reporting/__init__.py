"""What is made of results: verdicts on the targets, tables, pages, pictures."""
