"""Names that Ray has under `experimental`: `tqdm_ray`, and where objects are."""

from __future__ import annotations

from jray.experimental.locations import get_local_object_locations as get_local_object_locations
from jray.experimental.locations import get_object_locations as get_object_locations
