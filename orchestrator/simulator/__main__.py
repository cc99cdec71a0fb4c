"""`python -m orchestrator.simulator`: one simulated server, its settings on stdin."""

from orchestrator.simulator.process import main

if __name__ == "__main__":
    main()
