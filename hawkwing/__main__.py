"""`python -m hawkwing`."""

import sys

from hawkwing.cli import main

sys.exit(main())
