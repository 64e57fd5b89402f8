"""Owns the view of a cell's work: progress and a timeline, live under the cell, and at the end a picture that stays.

`timeline`, `progress` and `reason` are what is known, `picture`, `page`, `drawing` and `words` how it looks, `view`
when there is something new; all of these are pure.  `live` has the thread.
"""

from jray.notebook.lens.live import MODES as MODES
from jray.notebook.lens.live import CellLens as CellLens
from jray.notebook.lens.picture import Picture as Picture
