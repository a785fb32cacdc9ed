"""``python -m tritonforge_generator.cli`` is ``tritonforge``."""

from tritonforge_generator.cli.main import main

main()
