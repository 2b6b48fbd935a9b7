"""Audio on disk and on the clock: files, resampling, and cutting long signals into windows."""
