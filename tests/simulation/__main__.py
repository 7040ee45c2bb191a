from tests.simulation.runner import main

main()
