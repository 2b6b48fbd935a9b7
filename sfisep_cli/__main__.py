"""Run the command as `python -m sfisep_cli`."""

from sfisep_cli.app import main

main()
