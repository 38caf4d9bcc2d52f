"""`python -m tourney_ray` is `tourney`."""

from tourney_ray.cli.app import main

if __name__ == "__main__":
    main()
