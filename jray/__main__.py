"""`python -m jray` is the command `jray`."""

import sys

from jray.cli import main

sys.exit(main())
