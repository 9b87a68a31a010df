"""The verbs of ``mtmsa`` that are our own: each module has a light ``parser()`` and a ``main(args)``."""
