"""`python -m heitu` is `heitu`."""

from heitu.cli import main

main()
