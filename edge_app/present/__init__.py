"""A result in other forms: page, JSON, CSV, FHIR, DICOM."""
