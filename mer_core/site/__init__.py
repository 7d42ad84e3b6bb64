"""The static listening site: a run's explained clips as a self-contained folder of pages, pictures and sounds."""
