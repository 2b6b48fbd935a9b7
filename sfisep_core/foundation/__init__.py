"""What everything else stands on: whole files, digests, locks, signals, processes and jobs."""
