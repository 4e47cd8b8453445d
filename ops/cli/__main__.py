"""`python -m ops.cli`: the same as the `upwell` command; how `upwell up` starts its processes."""

from ops.cli.main import main

main()
