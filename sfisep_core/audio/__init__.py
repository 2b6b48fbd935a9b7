"""Audio input and output: files, resampling, transforms, and windows of long signals."""
