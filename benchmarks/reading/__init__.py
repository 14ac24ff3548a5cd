"""From scores.csv to verdicts: results read back, statistics, comparisons, findings and tables."""
