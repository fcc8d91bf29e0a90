"""What the box keeps: images, results, deliveries and the audit trail, in SQLite and on the disk."""
