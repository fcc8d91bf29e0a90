"""Networks that say whether findings are there by the mean of a map that shows where."""
