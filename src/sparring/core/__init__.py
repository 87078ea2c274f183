"""What every layer shares: threat models, call strings, records, statistics. Knows nothing of the rest."""
