"""``python -m mtmsa_lightning`` is ``mtmsa``.

Python searches the working directory first: in a folder that you do not trust, run ``mtmsa`` or ``python -P
-m mtmsa_lightning``.
"""

import os
import sys

if sys.path[:1] == [os.getcwd()]:  # noqa: PTH109  # added by `python -m`; must not shadow libraries
    import mtmsa_lightning

    here = sys.path.pop(0)
    if os.path.dirname(os.path.dirname(os.path.abspath(mtmsa_lightning.__file__))) == here:  # noqa: PTH100, PTH120
        sys.path.append(here)  # a checkout, which child processes import too

from mtmsa_lightning.cli.main import main

if __name__ == "__main__":
    main()
