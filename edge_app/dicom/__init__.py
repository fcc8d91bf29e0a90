"""What receiving and sending DICOM share. Whoever imports a part of it makes the libraries of DICOM quiet."""

from edge_app.dicom import quiet as quiet
