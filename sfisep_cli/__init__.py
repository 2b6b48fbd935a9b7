"""The command `sfisep`: a terminal around the functions of `sfisep_core`."""
