"""Commands behind the tables on distilled regression."""
