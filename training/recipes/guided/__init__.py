"""Findings whose networks were guided by the regions in which annotators saw them."""
