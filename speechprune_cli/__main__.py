"""`python -m speechprune_cli`."""

import sys

from speechprune_cli.main import main

sys.exit(main())
