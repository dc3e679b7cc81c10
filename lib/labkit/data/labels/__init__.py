"""Labels that people give to rows: which rows to ask about, the label of each annotator, how far they agree."""
