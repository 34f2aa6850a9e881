"""Reports of the command line: environment and shipped networks."""
