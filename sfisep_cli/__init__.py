"""The command `sfisep`: a command-line interface to `sfisep_core`."""
