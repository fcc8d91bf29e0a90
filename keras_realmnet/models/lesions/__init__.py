"""Lesion-Net, the networks that it is compared with, and grading that looks at lesions (Wei et al., ICPR 2020)."""
