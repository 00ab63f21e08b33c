"""`python -m pipeline …`: the command line without an installed script, as MLflow projects and Ray jobs need it."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
