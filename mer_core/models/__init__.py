"""Regressors from feature tables to ratings, and how they are stored."""
