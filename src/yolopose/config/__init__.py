"""Options: typed dataclasses, one table of flat key names that help, docs and checks come from."""
