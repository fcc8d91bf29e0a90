"""Networks for the photographs of PALM."""
