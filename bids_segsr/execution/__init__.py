"""How a run of the App is set up and carried out: settings, checks, Nipype and its plugins."""
