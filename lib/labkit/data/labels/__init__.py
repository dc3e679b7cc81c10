"""Labels that people give to rows: which rows to ask about, what each annotator said, how far they agree."""
