"""`python -m seedfold` is the `seedfold` command."""

from seedfold.cli import main

main()
