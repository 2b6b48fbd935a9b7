"""Foundation of all other packages: atomic files, digests, locks, signals, processes and jobs."""
