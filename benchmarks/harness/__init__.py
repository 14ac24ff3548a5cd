"""From a request to scores.csv: images drawn or found, scored, and written down so that a killed command goes on."""
