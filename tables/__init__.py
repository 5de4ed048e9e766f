"""Both result tables of the paper, measured again: every cell through DVC, then the tables and their page."""
