"""Whom the loss of the whole service hit, out of whatever is left of it.

`sources` finds what can be read in files and directories; `line` puts rows of all of them into one
log, as far as the chain proves it, and what can still be read behind; `live` folds who was live at
its end; `spools` adds what agents remember; `report` says whom it hit, and what can't be known.
Nothing is written, nothing is repaired, and no source is opened as a database.
"""
