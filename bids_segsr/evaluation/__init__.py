"""The tables and figures of the articles, for any set of models."""
