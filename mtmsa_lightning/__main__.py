"""``python -m mtmsa_lightning`` is ``mtmsa``.

Python looks for the package in the working directory first: in a folder of someone else run ``mtmsa``, or
``python -P -m mtmsa_lightning``.
"""

import os
import sys

if sys.path[:1] == [os.getcwd()]:  # noqa: PTH109  # put there by `python -m`: no file of it stands before a library
    import mtmsa_lightning

    here = sys.path.pop(0)
    if os.path.dirname(os.path.dirname(os.path.abspath(mtmsa_lightning.__file__))) == here:  # noqa: PTH100, PTH120
        sys.path.append(here)  # a checkout, which processes started from this one import too

from mtmsa_lightning.cli.main import main

if __name__ == "__main__":
    main()
