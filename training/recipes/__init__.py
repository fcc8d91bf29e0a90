"""One recipe per file: `RECIPE`, stating what differs from the published settings, and what came of it."""
