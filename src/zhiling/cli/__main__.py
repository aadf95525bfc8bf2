from zhiling.cli import main

main()
