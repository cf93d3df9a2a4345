"""`python -m peerauth`."""

import sys

from peerauth.cli.main import main

sys.exit(main())
