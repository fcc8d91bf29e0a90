"""What readers of files share: names, tables, points, masks, and what they tell."""
