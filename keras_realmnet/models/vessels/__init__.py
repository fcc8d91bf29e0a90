"""The retina's vessels: the segmentation GAN of Son et al. (J Digit Imaging 32, 2019), and a small network of ours."""
