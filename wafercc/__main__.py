"""``python -m wafercc`` is the command ``wafercc``."""

import sys

from .cli.main import main

sys.exit(main())
