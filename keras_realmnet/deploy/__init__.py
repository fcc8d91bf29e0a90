"""From a trained network to the form that inference engines run well."""
