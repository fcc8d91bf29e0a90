"""The libraries of DICOM are made quiet: what they tell may quote a sender, and so a patient."""

import logging

import pydicom.config

from edge_app.dicom import compat

# What matters of pynetdicom's messages is logged by those who call it.
compat.log_no_events()
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
# Values are the sender's, and pydicom's warnings about them would put patient data on stderr.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
