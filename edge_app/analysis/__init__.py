"""From image files to records, without a running box: on this machine or on a cluster."""
