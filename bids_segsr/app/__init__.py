"""The App from its settings to results and reports, a module a level."""
