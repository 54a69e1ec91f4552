"""``python -m dlas.cli``: the command line where no script is installed."""

import sys

from dlas.cli.app import main

sys.exit(main())
